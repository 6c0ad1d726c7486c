package ghostferry

import (
	"errors"
	"fmt"
)

// ThrottlersConfig are the throttlers that a configuration asks for. They are combined: the
// run pauses while one of them says so, the copy before the apply.
type ThrottlersConfig struct {
	// ReplicaLag watches replicas: of the source, of the target.
	ReplicaLag []ReplicaLagThrottlerConfig `json:",omitempty"`
	// Load watches how busy servers are.
	Load []LoadThrottlerConfig `json:",omitempty"`
	// Query asks questions of the operator's.
	Query []QueryThrottlerConfig `json:",omitempty"`
	// HTTP asks endpoints.
	HTTP []HTTPThrottlerConfig `json:",omitempty"`
	// Adaptive makes the copy smaller and slower while the source answers slowly; nil: no.
	Adaptive *AdaptiveConfig `json:",omitempty"`
}

// newThrottler makes the run's throttler: a pauser where nothing else is configured.
func (c *Config) newThrottler() (Throttler, error) {
	var throttlers []Throttler
	var faults []error
	add := func(kind string, i int, t Throttler, err error) {
		if err != nil {
			faults = append(faults, fmt.Errorf("Throttlers.%s[%d]: %w", kind, i, err)) //nolint:staticcheck // the name of a setting
			return
		}
		throttlers = append(throttlers, t)
	}
	for i := range c.Throttlers.ReplicaLag {
		t, err := NewReplicaLagThrottler(&c.Throttlers.ReplicaLag[i])
		add("ReplicaLag", i, t, err)
	}
	for i := range c.Throttlers.Load {
		t, err := NewLoadThrottler(&c.Throttlers.Load[i])
		add("Load", i, t, err)
	}
	for i := range c.Throttlers.Query {
		t, err := NewQueryThrottler(&c.Throttlers.Query[i])
		add("Query", i, t, err)
	}
	for i := range c.Throttlers.HTTP {
		client, err := c.CallbackClient()
		var t *HTTPThrottler
		if err == nil {
			t, err = NewHTTPThrottler(&c.Throttlers.HTTP[i], client)
		}
		add("HTTP", i, t, err)
	}
	if err := c.Throttlers.validateAdaptive(); err != nil {
		faults = append(faults, err)
	}
	combined := NewCombinedThrottler(throttlers...)
	if len(faults) > 0 {
		return nil, errors.Join(errors.Join(faults...), combined.Close())
	}
	if len(throttlers) == 0 {
		return &PauserThrottler{}, nil
	}
	return combined, nil
}

// besideHostsThrottler notes which throttlers of the configuration are not made because the
// host has set Ferry.Throttler, and checks the settings of the one that works all the same.
func (f *Ferry) besideHostsThrottler() error {
	t := &f.Throttlers
	for _, kind := range []struct {
		name  string
		count int
	}{{"ReplicaLag", len(t.ReplicaLag)}, {"Load", len(t.Load)}, {"Query", len(t.Query)}, {"HTTP", len(t.HTTP)}} {
		if kind.count > 0 {
			f.logger.Info(noEffect("Throttlers."+kind.name, "the host has set Ferry.Throttler"))
		}
	}
	return t.validateAdaptive()
}

func (t *ThrottlersConfig) validateAdaptive() error {
	if t.Adaptive == nil {
		return nil
	}
	if err := t.Adaptive.validate(); err != nil {
		return fmt.Errorf("Throttlers.Adaptive: %w", err) //nolint:staticcheck // the name of a setting
	}
	return nil
}
