package proxy

import "errors"

// ErrStopping is the cause, as [context.Cause] returns it, of a request's context that was cancelled
// because the process is about to end. The client is still there and must get an answer, 504 with
// Connection: close: on a connection that closes without one many clients send the request again,
// and WeChat may have executed the call.
var ErrStopping = errors.New("the gateway is stopping")
