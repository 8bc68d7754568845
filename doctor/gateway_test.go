package doctor

import (
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"wxproxy/internal/words"
)

// standing is an admin listener that answers as it is told to.
func standing(t *testing.T, answers map[string]string) (*doctor, string) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, known := answers[r.URL.Path]
		switch {
		case !known:
			w.WriteHeader(http.StatusNotFound)
		case text == "401":
			w.WriteHeader(http.StatusUnauthorized)
		default:
			_, _ = w.Write([]byte(text))
		}
	}))
	t.Cleanup(server.Close)
	address := server.Listener.Addr().String()
	d := &doctor{Options: load(t, "listen: 127.0.0.1:0\nadmin: {listen: \""+address+"\", token: a2f5c1d3e4b607182930415263748596}\n")}
	if d.ConfigErr != nil {
		t.Fatal(d.ConfigErr)
	}
	return d, address
}

func TestGateway(t *testing.T) {
	const metrics = "wxproxy_build_info{version=\"1.2.3\"} 1\n"
	good := func(path, text string) map[string]string {
		answers := map[string]string{"/-/healthy": "ok", "/-/ready": `{"status":"ready","store":"ok"}`, "/-/reload": `{"status":"reloaded"}`, "/metrics": metrics}
		answers[path] = text
		return answers
	}
	for _, tt := range []struct {
		name    string
		answers map[string]string
		en, zh  string
	}{
		{"good", good("/metrics", metrics), "ok: running at ADDR, version 1.2.3\n", "ok: 运行于 ADDR，版本 1.2.3\n"},
		{
			"another program",
			map[string]string{"/-/healthy": "hello"},
			"fault: what listens at ADDR is no gateway: HTTP 200\n-> give admin.listen a port of its own\n", "fault: 监听 ADDR 的不是网关：HTTP 200\n-> 给 admin.listen 换一个单独的端口\n",
		},
		{
			"another version", good("/metrics", "wxproxy_build_info{version=\"1.0.0\"} 1\n"),
			"note: the running gateway is version 1.0.0, this program is 1.2.3\n-> restart the gateway, so that it runs the installed version\n",
			"note: 运行中的网关是 1.0.0 版，这个程序是 1.2.3 版\n-> 重启网关，让它运行安装好的版本\n",
		},
		{
			"refusing", good("/-/ready", `{"status":"refusing","store":"unreachable"}`),
			"fault: the gateway is not ready: it refuses calls, because its store is unreachable\n-> see the check of the store below, and the gateway's log\n", "",
		},
		{
			"without its store", good("/-/ready", `{"status":"ready","store":"unreachable"}`),
			"warning: the gateway goes on without its store, which is unreachable\n-> see the check of the store below, and the gateway's log\n", "",
		},
		{"stopping", good("/-/ready", `{"status":"stopping","store":"ok"}`), "note: the gateway is stopping\n", ""},
		{
			"a faulty reload", good("/-/reload", `{"status":"fault","error":"wxproxy.yaml:3:1: listne: no such key: did you mean listen?"}`),
			"fault: the gateway runs with an older configuration, because the last one has faults: wxproxy.yaml:3:1: listne: no such key: did you mean listen?\n-> correct the file; the gateway reads it again within seconds\n", "",
		},
		{
			"another token", good("/-/reload", "401"),
			"warning: the gateway refuses the admin token\n-> use the gateway's own configuration and environment, or --token-file; a changed admin.token takes effect at a restart\n", "",
		},
		{
			"losses", good("/metrics", metrics+"wxproxy_accept_errors_total 3\nwxproxy_access_log_dropped_total 4\nwxproxy_panics_total 1\n"),
			"warning: connections that could not be accepted since the gateway's start: 3\n-> raise the limit of file descriptors (LimitNOFILE= in the unit, or ulimit -n), or lower max_in_flight\n" +
				"warning: lines of the access log that were dropped since the gateway's start: 4\n-> free space on the disk of the access log, or have its reader keep up\n" +
				"warning: requests that ended in a panic since the gateway's start: 1\n-> this is a fault of the program: report it with the gateway's log\n", "",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d, address := standing(t, tt.answers)
			wantLines(t, d.lookAtGateway(t.Context()), strings.ReplaceAll(tt.en, "ADDR", address), strings.ReplaceAll(tt.zh, "ADDR", address))
		})
	}
}

func TestNoGateway(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	d := &doctor{Options: load(t, "admin: {listen: \""+address+"\"}\n")}
	wantLines(t, d.lookAtGateway(t.Context()),
		"note: no gateway is running at "+address+"\n-> start it: wxproxy serve. If it runs with another configuration, name that: --config\n",
		"note: "+address+" 没有运行中的网关\n-> 启动它：wxproxy serve。如果它用的是另一份配置，用 --config 指明\n")
	if d.gateway.Load() != nil {
		t.Error("there is a gateway")
	}
}

// The main listener is asked too.
func TestMainListener(t *testing.T) {
	d, _ := standing(t, map[string]string{"/-/healthy": "ok", "/-/ready": `{"status":"ready","store":"ok"}`, "/-/reload": "{}"})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d.Config.Listen = l.Addr().String()
	l.Close()
	if got := lines(words.English, d.lookAtGateway(t.Context())); !strings.HasPrefix(got, "fault: the main listener "+d.Config.Listen+" does not answer: dial tcp ") {
		t.Errorf("got %s", got)
	}
}
