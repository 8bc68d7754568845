// Package sandbox is a local stand-in of api.weixin.qq.com. It hands out access tokens, answers
// the APIs of an account, counts every call against daily quotas and refuses what is over them,
// in the words and with the habits of the real platform, and it can be ordered to misbehave as
// the real one does on a bad day.
//
// It is the reference of the tests. A gateway reports how many calls it sent; the sandbox counts how many
// WeChat executed, whatever happened to the connection:
//
//	wx := sandbox.NewServer(sandbox.Options{
//		Quotas: map[string]int64{"/cgi-bin/menu/create": 1000},
//	})
//	defer wx.Close()
//	// ... send calls to wx.URL ...
//	wx.Executed(sandbox.DefaultAppID, "/cgi-bin/menu/create") // at most 1000
//
// Where the platform's behaviour is published, the sandbox follows it. Where it is not, it takes
// the reading that is hardest on a gateway, and this is documented: paths are decoded, cleaned and folded to
// lower case before they are matched, so every spelling of a path spends the same quota; and each
// call with a good token is executed and counted, also when its answer is an error such as 43002
// (wrong verb), 44002 (no body) or 40007 (unknown media).
//
// # Faults
//
// A [Fault] is which calls it applies to and what happens to them; [Sandbox.Order] returns a
// handle that knows how often it fired, so that a test can prove that what it planned took place:
//
//	lost := wx.Order(sandbox.Fault{Path: "/cgi-bin/message/custom/send", ResetAfter: true})
//	// ... one call: executed, but the connection breaks instead of an answer ...
//	if lost.Fired() != 1 { ... }
//
// A fault with Body and Times -1 is also the way to give a path an answer of one's own.
//
// # Control over HTTP
//
// The same handler serves these under /-/sandbox/, for those who run it as a program. They are
// neither counted nor recorded. Every answer is JSON; a refusal is HTTP 4xx with {"error":"..."}.
//
//	GET  /-/sandbox/state                                what every app called, executed and used; the faults and how often they fired
//	POST /-/sandbox/fault                                a Fault as JSON, answers {"id":1}; durations as "200ms"
//	POST /-/sandbox/release?fault=1                      lets the calls go that a fault holds
//	POST /-/sandbox/cancel?fault=1                       ends a fault
//	POST /-/sandbox/advance?by=24h                       moves the clock
//	POST /-/sandbox/kill_tokens?appid=wx..               every token answers 40001; no appid: of every app
//	POST /-/sandbox/quota?appid=wx..&path=/..&per_day=9  sets a quota; -1 takes it away
//	POST /-/sandbox/minute_limit?appid=wx..&path=/..&per_minute=9  sets a limit of a clock minute; -1 takes it away
//	POST /-/sandbox/used?appid=wx..&path=/..&n=9         spends n calls that no client made
//	POST /-/sandbox/clear?appid=wx..                     clears the day's counts as the console does
//	POST /-/sandbox/reset                                back to the beginning
//
// For example, with the sandbox on port 9000:
//
//	curl -X POST -d '{"path":"/cgi-bin/stable_token","errcode":40164,"times":-1}' \
//		http://127.0.0.1:9000/-/sandbox/fault
//
// # Sources
//
// Section numbers in comments (facts 2b) are those of the project's notes on WeChat's behaviour,
// which name the official page, SDK or report behind each line.
package sandbox
