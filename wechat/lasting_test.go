package wechat

import "testing"

func TestLasting(t *testing.T) {
	for _, e := range []Errcode{40003, 40037, 43004, 45015, 47003, 40007} {
		if lasts, _ := e.Lasting(); !lasts {
			t.Errorf("%d does not last", e)
		}
	}
	for _, e := range []Errcode{OK, SystemError, InvalidCredential, InvalidToken, TokenExpired, QuotaReached, TooFast, ClearsUsed, Unauthorized, 40164, 42002, 45028, 48002, 50002} {
		if lasts, _ := e.Lasting(); lasts {
			t.Errorf("%d lasts: it is of a token, a limit or a busy WeChat", e)
		}
	}
	for _, e := range []Errcode{40003, 43004, 43101, 45015, 45047, 47003, 40007} {
		if _, always := e.Lasting(); always {
			t.Errorf("%d is given whatever the call holds, although it is of one user or one message", e)
		}
	}
	if _, always := Errcode(40037).Lasting(); !always {
		t.Error("40037 depends on whom the call is for")
	}
}
