package proxy

import "errors"

// ErrStopping is the cause (context.Cause) with which the server ends the contexts of calls that are
// still under way when the gateway's time to stop is over.
var ErrStopping = errors.New("the gateway is stopping")
