package doctor

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"wxproxy/internal/words"
)

func TestDescriptors(t *testing.T) {
	d := &doctor{Options: load(t, "max_in_flight: 1000000\n")}
	if got := lines(words.English, d.lookAtMachine(t.Context())); !strings.Contains(got, "file descriptors of this shell; max_in_flight 1000000 needs 2000128\n-> raise the limit of file descriptors (LimitNOFILE= in the unit, or ulimit -n), or lower max_in_flight\n") {
		t.Errorf("got %s", got)
	}
	d = &doctor{Options: load(t, "max_in_flight: 2000\n")}
	d.gateway.Store(&gatewayState{metrics: map[string]metric{"process_max_fds{}": {value: 1024}}})
	_, findings := d.lookAtDescriptors()
	wantLines(t, findings,
		"warning: 1024 file descriptors of the running gateway; max_in_flight 2000 needs 4128\n-> raise the limit of file descriptors (LimitNOFILE= in the unit, or ulimit -n), or lower max_in_flight\n",
		"warning: 运行中的网关可用 1024 个文件描述符；max_in_flight 2000 需要 4128 个\n-> 提高文件描述符的上限（单元文件里的 LimitNOFILE=，或 ulimit -n），或调低 max_in_flight\n")
	d.gateway.Store(&gatewayState{metrics: map[string]metric{"process_max_fds{}": {value: 4128}}})
	if limit, findings := d.lookAtDescriptors(); limit != 4128 || findings != nil {
		t.Errorf("%d, %v", limit, findings)
	}
}

func TestMemoryLimit(t *testing.T) {
	for _, tt := range []struct {
		file, text string
		gomemlimit string
		en         string
	}{
		{"memory.max", "max\n", "", ""},
		{"memory.max", "2147483648\n", "", ""},
		{"memory.max", "536870912\n", "", "note: memory is limited to 512 MiB, which the garbage collector does not know\n-> set GOMEMLIMIT=460MiB in the gateway's environment\n"},
		{"memory.max", "536870912\n", "460MiB", ""},
		{"memory/memory.limit_in_bytes", "9223372036854771712\n", "", ""},
		{"memory/memory.limit_in_bytes", "134217728\n", "115MiB", "warning: memory is limited to 128 MiB; max_in_flight 2000 may need 221 MiB\n-> raise the limit of the container or unit (MemoryMax=), or lower max_in_flight\n"},
	} {
		root := t.TempDir()
		if err := os.MkdirAll(filepath.Dir(filepath.Join(root, tt.file)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, tt.file), []byte(tt.text), 0o600); err != nil {
			t.Fatal(err)
		}
		d := &doctor{Options: load(t, "max_in_flight: 2000\n")}
		d.Cgroups, d.Getenv = root, func(string) string { return tt.gomemlimit }
		wantLines(t, d.lookAtMemory(), tt.en, "")
	}
}

// The access log may grow to its size times its files.
func TestLogDisk(t *testing.T) {
	folder := t.TempDir()
	d := &doctor{Options: load(t, "access_log: {file: "+folder+"/access.log, max_size_mb: 100000, keep: 1000}\n")}
	got := lines(words.English, d.lookAtLogDisk())
	if !strings.HasPrefix(got, "warning: ") || !strings.HasSuffix(got, " are free on the disk of "+folder+", and the access log may still take 95 TiB\n-> lower access_log.max_size_mb or access_log.keep, or free space\n") {
		t.Errorf("got %s", got)
	}
	d = &doctor{Options: load(t, "access_log: {file: "+folder+"/access.log, max_size_mb: 1, keep: 1}\n")}
	wantLines(t, d.lookAtLogDisk(), "", "")
}

func TestExposure(t *testing.T) {
	const secret = "a2f5c1d3e4b607182930415263748596"
	for _, tt := range []struct{ name, yaml, en, zh string }{
		{"loopback", "listen: 127.0.0.1:8080\n", "ok: 127.0.0.1:8080, admin 127.0.0.1:8081\n", "ok: 127.0.0.1:8080，管理 127.0.0.1:8081\n"},
		{
			"private", "listen: 10.0.0.5:8080\n",
			"note: others can reach 10.0.0.5:8080, which has no TLS: keys and data pass in the clear\n-> set tls, or have a load balancer with TLS in front; else let only your own network reach it\n",
			"note: 别的机器能连到 10.0.0.5:8080，而它没有 TLS：密钥和数据是明文传输的\n-> 设置 tls，或在前面放一个带 TLS 的负载均衡；否则只让自己的内网能连到它\n",
		},
		{
			"public", "listen: 203.0.113.5:8080\n",
			"warning: others can reach 203.0.113.5:8080, which has no TLS: keys and data pass in the clear\n-> set tls, or have a load balancer with TLS in front; else let only your own network reach it\n", "",
		},
		{
			"admin", "admin: {listen: \"203.0.113.5:8081\", token: " + secret + "}\n",
			"warning: others can reach admin.listen 203.0.113.5:8081, which has no TLS: the admin token passes in the clear\n-> set admin.listen to 127.0.0.1:8081, and reach it by ssh -L; or let only your own network reach it\n",
			"warning: 别的机器能连到 admin.listen 203.0.113.5:8081，而它没有 TLS：管理 token 是明文传输的\n-> 把 admin.listen 设为 127.0.0.1:8081，用 ssh -L 访问；或只让自己的内网能连到它\n",
		},
		{
			"open", "listen: 10.0.0.5:8080\nallow_open: true\nanonymous: true\n",
			"note: others can reach 10.0.0.5:8080, which has no TLS: keys and data pass in the clear\n-> set tls, or have a load balancer with TLS in front; else let only your own network reach it\n" +
				"warning: anonymous: true: any client that reaches 10.0.0.5:8080 can call for the account\n-> set it to auto, and give each service a key under callers\n", "",
		},
		{
			"socket", "listen: unix:/tmp/x\nlisten_mode: 0666\n",
			"note: unix:/tmp/x has listen_mode -rw-rw-rw-: every user of this machine can call\n-> set listen_mode: 0660, and put the services into the gateway's group\n", "",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := &doctor{Options: load(t, tt.yaml)}
			if d.ConfigErr != nil {
				t.Fatal(d.ConfigErr)
			}
			wantLines(t, d.lookAtExposure(t.Context()), tt.en, tt.zh)
		})
	}
}

func TestFigures(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1536: "1.5 KiB", 10 << 20: "10 MiB", 3 << 30: "3.0 GiB", 1 << 60: "1048576 TiB"} {
		if got := size(n); got != want {
			t.Errorf("size(%d) = %s, want %s", n, got, want)
		}
	}
	for d, want := range map[time.Duration]string{77300: "77µs", 1234567: "1.2ms", 23456789: "23ms", 1234567890: "1.2s", 83 * time.Second: "1m23s"} {
		if got := short(d); got != want {
			t.Errorf("short(%d) = %s, want %s", d, got, want)
		}
	}
}
