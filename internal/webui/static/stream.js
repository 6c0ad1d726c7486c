// The connection to the server: requests with the token in a header, never in an address,
// and server-sent events read from a fetch, because EventSource sends no header.

const storageKey = "ghostferry-token";

// silence is for how many milliseconds an event stream may say nothing.
const silence = 10000;

export const token = {
  get: () => sessionStorage.getItem(storageKey) || "",
  set: (value) => sessionStorage.setItem(storageKey, value),
  forget: () => sessionStorage.removeItem(storageKey),
};

const headers = () => ({ Authorization: `Bearer ${token.get()}` });

export async function get(path) {
  const answer = await fetch(path, { headers: headers() });
  if (!answer.ok) throw new Refused(answer.status, await answer.text());
  return answer.json();
}

export async function post(path, body) {
  const answer = await fetch(path, {
    method: "POST",
    headers: { ...headers(), "Content-Type": "application/json", "X-Ghostferry-Control": "page" },
    body: JSON.stringify(body ?? {}),
  });
  if (!answer.ok) throw new Refused(answer.status, await answer.text());
}

export class Refused extends Error {
  constructor(status, text) {
    super(text.trim() || `the server answered ${status}`);
    this.status = status;
  }
}

// Stream follows /api/events and connects again when the connection ends.
export class Stream {
  constructor({ query, onEvent, onLive, onRefused }) {
    Object.assign(this, { query, onEvent, onLive, onRefused });
    this.running = 0; // the number of the present connection; older ones are stale
  }

  // restart connects with a new query.
  restart() {
    this.running++;
    this.abort?.abort();
    this.abort = new AbortController();
    this.follow(this.running, this.abort.signal);
  }

  stop() {
    this.running++;
    this.abort?.abort();
    this.onLive(false);
  }

  async follow(number, signal) {
    for (let pause = 500; this.running === number; pause = Math.min(pause * 2, 8000)) {
      try {
        const answer = await fetch(`/api/events?${this.query()}`, { headers: headers(), signal });
        if (!answer.ok) {
          const text = await answer.text();
          if (answer.status === 401 || answer.status === 403) {
            if (this.running === number) this.onRefused(new Refused(answer.status, text));
            return;
          }
          throw new Refused(answer.status, text);
        }
        pause = 500;
        this.onLive(true);
        await this.read(number, answer.body.getReader());
      } catch (problem) {
        if (signal.aborted) return;
      }
      if (this.running !== number) return;
      this.onLive(false);
      await new Promise((resolve) => setTimeout(resolve, pause));
    }
  }

  // read returns when the connection ends, or has been silent although there is news every
  // second: nobody tells a page that the way to the server is gone.
  async read(number, reader) {
    const decoder = new TextDecoder();
    let text = "";
    for (;;) {
      const patience = setTimeout(() => reader.cancel(), silence);
      const { value, done } = await reader.read().finally(() => clearTimeout(patience));
      if (done) return;
      text += decoder.decode(value, { stream: true });
      for (let end = text.indexOf("\n\n"); end >= 0; end = text.indexOf("\n\n")) {
        const event = { name: "", data: "" };
        for (const line of text.slice(0, end).split("\n")) {
          if (line.startsWith("event: ")) event.name = line.slice(7);
          if (line.startsWith("data: ")) event.data += line.slice(6);
        }
        text = text.slice(end + 2);
        if (this.running !== number) return;
        if (event.data) this.onEvent(event.name, JSON.parse(event.data));
      }
    }
  }
}
