// Numbers and times for people. What is not known says so.

const grouped = new Intl.NumberFormat("en-US");
const short = new Intl.NumberFormat("en-US", { notation: "compact", maximumFractionDigits: 1 });

export const count = (n) => (n == null ? "–" : grouped.format(Math.round(n)));
export const compact = (n) => (n == null ? "–" : n < 10000 ? grouped.format(Math.round(n)) : short.format(n));

export const plural = (n, what) => `${count(n)} ${what}${n === 1 ? "" : "s"}`;

// size is in decimal units.
export function size(bytes) {
  if (bytes == null) return "–";
  const units = ["B", "kB", "MB", "GB", "TB", "PB"];
  let unit = 0;
  while (bytes >= 1000 && unit < units.length - 1) {
    bytes /= 1000;
    unit++;
  }
  return `${unit === 0 || bytes >= 100 ? Math.round(bytes) : bytes.toFixed(1)} ${units[unit]}`;
}

export function duration(seconds) {
  if (seconds == null) return "unknown";
  if (seconds < 60) return `${Math.round(seconds)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${Math.round(seconds % 60)} s`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return `${hours} h ${minutes % 60} min`;
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

// lag keeps a decimal, because tenths matter at the cutover.
export const lag = (seconds) => (seconds == null ? "unknown" : seconds < 100 ? `${seconds.toFixed(1)} s` : duration(seconds));

export const milliseconds = (seconds) => (seconds < 10 ? `${Math.round(seconds * 1000)} ms` : duration(seconds));

// percent is rounded down: 100 % means everything.
export const percent = (fraction) => `${Math.floor(fraction * 100)} %`;

export const clock = (time) => new Date(time).toLocaleTimeString("en-GB");
