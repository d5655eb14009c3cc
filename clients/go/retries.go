package wallet

import (
	"context"
	"math/rand/v2"
	"time"
)

// RetryPolicy says how patient a client is. Pauses double and are drawn at random, so that many clients do not return at
// once.
type RetryPolicy struct {
	// Attempts of one call, the first included. A watched stream connects anew for as long as it is watched.
	Attempts     int
	FirstPause   time.Duration
	LongestPause time.Duration
	// StreamPause is the longest pause of a watched stream whose server stays away.
	StreamPause time.Duration
}

// DefaultRetryPolicy makes five tries within about three seconds.
func DefaultRetryPolicy() RetryPolicy {
	return RetryPolicy{
		Attempts:     5,
		FirstPause:   200 * time.Millisecond,
		LongestPause: 5 * time.Second,
		StreamPause:  30 * time.Second,
	}
}

// tries counts those of one call.
type tries struct {
	policy     RetryPolicy
	repeatable bool
	made       int
}

// pauseAfter says how long to wait before the next try, or that the error is the answer.
func (t *tries) pauseAfter(ctx context.Context, refused *Error) (time.Duration, bool) {
	t.made++
	if !t.repeatable || !refused.passing() || t.made >= t.policy.Attempts {
		return 0, false
	}
	pause := pauseBefore(t.made, t.policy.FirstPause, t.policy.LongestPause)
	if refused.RetryAfter > 0 {
		// The server knows when there is room; a little chance on top keeps the crowd apart.
		pause = refused.RetryAfter + time.Duration(rand.Int64N(int64(refused.RetryAfter/4)+1))
	}
	deadline, bounded := ctx.Deadline()
	return pause, !bounded || time.Until(deadline) > pause
}

// pauseBefore is the pause after so many failures in a row: between half and all of a doubling span.
func pauseBefore(failures int, first, longest time.Duration) time.Duration {
	span := longest
	if doublings := failures - 1; doublings < 20 && first<<doublings < longest {
		span = first << doublings
	}
	return span/2 + time.Duration(rand.Int64N(int64(span/2)+1))
}
