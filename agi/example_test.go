package agi_test

import (
	"fmt"

	"agiproxy/agi"
)

// A header comes in many small segments. What follows its empty line in the
// last of them belongs to the session.
func ExampleHeader() {
	segments := []string{
		"agi_network: yes\n",
		"agi_network_script: menu/main?lang=en\nagi_req",
		"uest: agi://ivr.example.com:4577/menu/main?lang=en\n",
		"agi_callerid: 5551234\n\nHANGUP\n",
	}
	h := agi.NewHeader(64 << 10)
	for _, s := range segments {
		n, err := h.Feed([]byte(s))
		if err != nil {
			fmt.Println(err)
			return
		}
		if h.Done() {
			fmt.Printf("script %s on %s, called by %s\n", h.Script(), h.Host(), h.Field("agi_callerid"))
			fmt.Printf("then %q\n", s[n:])
		}
	}
	// Output:
	// script menu/main on ivr.example.com, called by 5551234
	// then "HANGUP\n"
}

// What is no header is refused with its first bytes.
func ExampleHeader_refused() {
	_, err := agi.NewHeader(64 << 10).Feed([]byte("GET / HT"))
	fmt.Println(err)
	// Output: header line 1: not a header line
}

// Another backend gets the same header and is told which attempt it is.
func ExampleHeader_AppendReplay() {
	h := agi.NewHeader(64 << 10)
	if _, err := h.Feed([]byte("agi_network: yes\nagi_request: agi://pbx\n\n")); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%q\n", h.AppendReplay(nil, 2, false))
	// Output: "agi_network: yes\nagi_request: agi://pbx\nagi_attempt: 2\n\n"
}

// A dialogue is shown the commands line by line and the replies as they come. It
// knows that a usage is one reply, and that a prompt which another command
// stops gets none.
func ExampleDialogue() {
	var d agi.Dialogue
	command := func(line string) {
		d.Command([]byte(line))
		running, _ := d.Pending()
		fmt.Printf("%-24q %v runs\n", line, running)
	}
	replies := func(p string) {
		n := d.Replies([]byte(p))
		fmt.Printf("%-24q replies: %d, backend's turn: %v, hung up: %v\n", p, n, d.Turn() == agi.BackendsTurn, d.HungUp())
	}
	command("STREAM FILE hello \"\"\n")
	command("EXEC\n")
	replies("520-Usage:\n exe")
	replies("c APP\n520 End\n")
	command("WAIT FOR DIGIT 5000\n")
	replies("200 result=-1\nHANGUP\n")
	fmt.Println(d.Commands(), "commands")
	// Output:
	// "STREAM FILE hello \"\"\n" STREAM FILE runs
	// "EXEC\n"                 EXEC runs
	// "520-Usage:\n exe"       replies: 0, backend's turn: false, hung up: false
	// "c APP\n520 End\n"       replies: 1, backend's turn: true, hung up: false
	// "WAIT FOR DIGIT 5000\n"  WAIT FOR DIGIT runs
	// "200 result=-1\nHANGUP\n" replies: 1, backend's turn: true, hung up: true
	// 3 commands
}

func ExampleParseReply() {
	r, err := agi.ParseReply([]byte("200 result=1 (5551234)\n"))
	fmt.Println(r.Code, r.Result, r.Text, err)
	_, err = agi.ParseReply([]byte("HANGUP\n"))
	fmt.Println(err)
	// Output:
	// 200 1 (5551234) <nil>
	// not a reply
}
