package doctor

import (
	"os"
	"syscall"
	"testing"

	"wxproxy/internal/words"
)

// A disk that is nearly full, and one in memory.
func TestFullDisk(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("NOT TESTED: only root can mount a tmpfs")
	}
	folder := t.TempDir()
	if err := syscall.Mount("tmpfs", folder, "tmpfs", 0, "size=1m"); err != nil {
		t.Skipf("NOT TESTED: no tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(folder, 0); err != nil {
			t.Error(err)
		}
	})
	wantLines(t, storing(t, "file:"+folder+"/wxproxy.db").lookAtStore(t.Context()),
		"fault: only 1.0 MiB are free on the disk of "+folder+"\n-> free space, or move the file to another disk\n"+
			"warning: "+folder+" is in memory (tmpfs): counts and tokens are gone when the machine or the container restarts\n-> put the store file on a disk, or mount a volume\n",
		"fault: "+folder+" 所在磁盘只剩 1.0 MiB\n-> 腾出空间，或把文件移到另一个磁盘\n"+
			"warning: "+folder+" 在内存里（tmpfs）：机器或容器重启后计数和 token 就没有了\n-> 把存储文件放到磁盘上，或挂一个卷\n")
	d := &doctor{Options: load(t, "access_log: {file: "+folder+"/access.log}\n")}
	if got := lines(words.English, d.lookAtLogDisk()); got != "fault: only 1.0 MiB are free on the disk of "+folder+"\n-> free space, or move the file to another disk\n" {
		t.Errorf("got %s", got)
	}
}
