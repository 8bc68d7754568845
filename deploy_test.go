package wxproxy_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The unit of systemd is one that systemd reads without a complaint, and the manuals show it as it is.
func TestSystemdUnit(t *testing.T) {
	unit := readFile(t, "deploy/systemd/wxproxy.service")
	for _, manual := range []string{"README.md", "README.zh-CN.md"} {
		if !strings.Contains(readFile(t, manual), "```ini\n"+unit+"```\n") {
			t.Errorf("%s does not show deploy/systemd/wxproxy.service as it is", manual)
		}
	}
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Log("no systemd-analyze on PATH, so the unit is only compared with the manuals")
		return
	}
	const program = "/usr/local/bin/wxproxy"
	path := filepath.Join(t.TempDir(), "wxproxy.service")
	here, err := os.Executable() // systemd looks for the program
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(strings.ReplaceAll(unit, program, here)), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), analyze, "verify", path).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
}

// The image is built from what .dockerignore lets in, so every package of the program has to be in it.
func TestImageHasEveryPackage(t *testing.T) {
	ignored := readFile(t, ".dockerignore")
	for dir := range strings.FieldsSeq(goCommand(t, "list", "-deps", "-f", "{{if not .Standard}}{{with .Module}}{{if .Main}}{{$.ImportPath}}{{end}}{{end}}{{end}}", "./cmd/wxproxy")) {
		folder, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(dir, "wxproxy"), "/"), "/")
		if folder != "" && !strings.Contains(ignored, "\n!"+folder+"\n") {
			t.Errorf(".dockerignore keeps %s out of the image, and the program imports it", folder)
		}
	}
}
