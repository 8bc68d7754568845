package main

import (
	"fmt"
	"net/http"
	"runtime"
	"runtime/debug"

	"go.uber.org/zap"
)

// recovering answers 502 when next panics before it has begun an answer: on a connection that closes
// without one many clients send the request again, and WeChat may have executed the call. An answer that
// was begun is broken off where it is. [http.ErrAbortHandler] passes through.
//
// count is called for each panic; log gets its type and its stack. Of the panic's text only that of a
// [runtime.Error] is logged, which holds numbers and types: any other may quote the request.
func recovering(next http.Handler, log *zap.Logger, count func()) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			v := recover()
			switch v {
			case nil:
				return
			case http.ErrAbortHandler:
				panic(v)
			}
			count()
			reason := "not logged: it may quote the request"
			if e, ok := v.(runtime.Error); ok {
				reason = e.Error()
			}
			log.Error("panic in a handler", zap.String("type", fmt.Sprintf("%T", v)), zap.String("reason", reason), zap.ByteString("stack", debug.Stack()))
			if answered(w) {
				_ = http.NewResponseController(w).Flush() // the client is gone, or has what there is
				panic(http.ErrAbortHandler)
			}
			clear(w.Header())
			w.Header().Set("Connection", "close") // who knows what was read of the request
			http.Error(w, "internal error", http.StatusBadGateway)
		}()
		next.ServeHTTP(w, r)
	})
}

// answered reports whether the header of an answer was written. net/http does not expose it, but a
// status that is none makes it panic as long as it was not, and is ignored afterwards. A ResponseWriter of
// our own that takes notes would cost every call an allocation.
func answered(w http.ResponseWriter) (yes bool) {
	defer func() { yes = recover() == nil }()
	w.WriteHeader(0)
	return true
}
