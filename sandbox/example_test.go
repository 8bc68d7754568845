package sandbox_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"wxproxy/sandbox"
)

// Two calls fit into the quota; the third is refused, and one answer gets lost on its way.
func Example() {
	const path = "/cgi-bin/message/custom/send"
	wx := sandbox.NewServer(sandbox.Options{Quotas: map[string]int64{path: 2}})
	defer wx.Close()

	var token struct {
		Text string `json:"access_token"`
	}
	res, err := http.Get(wx.URL + "/cgi-bin/token?grant_type=client_credential" +
		"&appid=" + sandbox.DefaultAppID + "&secret=" + sandbox.DefaultSecret)
	if err != nil {
		fmt.Println(err)
		return
	}
	err = json.NewDecoder(res.Body).Decode(&token)
	res.Body.Close()
	if err != nil {
		fmt.Println(err)
		return
	}

	lost := wx.Order(sandbox.Fault{Path: path, After: 1, ResetAfter: true})
	for range 3 {
		res, err := http.Post(wx.URL+path+"?access_token="+token.Text, "application/json", strings.NewReader(`{"touser":"o1"}`))
		if err != nil {
			fmt.Println("no answer")
			continue
		}
		var answer struct {
			Code int `json:"errcode"`
		}
		err = json.NewDecoder(res.Body).Decode(&answer)
		res.Body.Close()
		fmt.Println("errcode", answer.Code, err)
	}
	fmt.Println("lost:", lost.Fired())
	fmt.Println("executed:", wx.Executed(sandbox.DefaultAppID, path))
	// Output:
	// errcode 0 <nil>
	// no answer
	// errcode 45009 <nil>
	// lost: 1
	// executed: 2
}
