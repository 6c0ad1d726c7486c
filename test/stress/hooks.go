package main

import (
	"context"
	"net"
	"net/http"
)

// hooks is what copydb's callbacks reach: the lock stops the applications.
type hooks struct {
	address  string
	server   *http.Server
	locked   chan struct{} // gets a token at each lock
	unlocked chan struct{} // and at each unlock
}

func startHooks(ctx context.Context, a *apps) (*hooks, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	h := &hooks{address: "http://" + l.Addr().String(), locked: make(chan struct{}, 1000), unlocked: make(chan struct{}, 1000)}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /lock", func(w http.ResponseWriter, _ *http.Request) {
		if err := a.pause(ctx); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		h.locked <- struct{}{}
	})
	mux.HandleFunc("POST /unlock", func(http.ResponseWriter, *http.Request) { h.unlocked <- struct{}{} })
	mux.HandleFunc("POST /abort", func(http.ResponseWriter, *http.Request) {}) // resumed when the mover has ended
	h.server = &http.Server{Handler: mux}
	go func() { _ = h.server.Serve(l) }() // until stop
	return h, nil
}

func (h *hooks) stop() { _ = h.server.Close() }

// drain forgets what was told before.
func drain(c chan struct{}) {
	for {
		select {
		case <-c:
		default:
			return
		}
	}
}
