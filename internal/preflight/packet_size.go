package preflight

import (
	"context"
	"fmt"
)

// checkPacketSize warns when the source can hold rows that the target cannot take in.
func (r *run) checkPacketSize(context.Context) error {
	source, target := r.SourceServer.MaxAllowedPacket, r.TargetServer.MaxAllowedPacket
	if target < source {
		r.warn("max_allowed_packet", fmt.Sprintf("it is %d bytes on the source and %d on the target: a large row may not fit", source, target),
			fmt.Sprintf("on the target: SET GLOBAL max_allowed_packet = %d", source))
	}
	return nil
}
