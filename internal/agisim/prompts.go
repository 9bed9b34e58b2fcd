package agisim

import (
	"strconv"
	"strings"
	"time"
)

// What Asterisk waits for if a command doesn't say, from its documentation.
const (
	dataTimeout   = 6 * time.Second
	optionTimeout = 5 * time.Second
)

// samples is an endpos: how far a prompt has played, in samples of 8 kHz.
func samples(d time.Duration) int64 { return d.Milliseconds() * 8 }

// milliseconds reads an argument; 0 and less have no limit.
func milliseconds(s string) time.Duration {
	n, _ := strconv.Atoi(s)
	if n <= 0 {
		return 1<<63 - 1
	}
	return time.Duration(n) * time.Millisecond
}

// typed returns the caller's next digit if it is among those that count.
func (ch *channel) typed(among string) (digit byte, ok bool) {
	if ch.digits == "" || !strings.Contains(among, ch.digits[:1]) {
		return 0, false
	}
	digit, ch.digits = ch.digits[0], ch.digits[1:]
	return digit, true
}

const anyDigit = "0123456789*#ABCD"

// play plays a prompt to its end. The caller types only when it is over.
func (ch *channel) play(interruptible bool) (played time.Duration, why cause) {
	start := time.Now()
	why = ch.wait(ch.prompt, interruptible)
	if why == elapsed {
		return ch.prompt, why
	}
	return time.Since(start), why
}

// stream is dropped without a reply when another command comes.
func (ch *channel) stream([]string) answer {
	played, why := ch.play(true)
	switch why {
	case interrupted:
		return answer{}
	case gone:
		return failf("result=-1 endpos=%d", samples(played))
	}
	return replyf("result=0 endpos=%d", samples(played))
}

func (ch *channel) controlStream([]string) answer {
	played, why := ch.play(false)
	if why == gone {
		return failf("result=-1 endpos=%d", samples(played))
	}
	return replyf("result=0 endpos=%d", samples(played))
}

func (ch *channel) say([]string) answer {
	if _, why := ch.play(false); why == gone {
		return failf("result=-1")
	}
	return replyf("result=0")
}

// waitForDigit stops when another command comes, and answers as if a digit with
// the code 1 had been typed (measured with Asterisk 22.10).
func (ch *channel) waitForDigit(args []string) answer {
	if digit, ok := ch.typed(anyDigit); ok {
		return replyf("result=%d", digit)
	}
	switch ch.wait(milliseconds(args[0]), true) {
	case interrupted:
		return replyf("result=1")
	case gone:
		return failf("result=-1")
	}
	return replyf("result=0")
}

// getData plays a prompt and takes digits up to a number of them or to #.
func (ch *channel) getData(args []string) answer {
	timeout, most := dataTimeout, 1024
	if len(args) > 1 && args[1] != "0" {
		timeout = milliseconds(args[1])
	}
	if len(args) > 2 {
		if n, err := strconv.Atoi(args[2]); err == nil && n > 0 {
			most = n
		}
	}
	_, why := ch.play(true)
	var data []byte
	for why == elapsed && len(data) < most {
		digit, ok := ch.typed(anyDigit)
		if !ok {
			if why = ch.wait(timeout, true); why == elapsed {
				return replyf("result=%s (timeout)", data)
			}
			break
		}
		if digit == '#' {
			break
		}
		data = append(data, digit)
	}
	switch why {
	case interrupted:
		return answer{}
	case gone:
		return failf("result=-1")
	}
	return replyf("result=%s", data)
}

// getOption plays a prompt and waits for one of some digits.
func (ch *channel) getOption(args []string) answer {
	timeout := optionTimeout
	if len(args) > 2 {
		timeout = milliseconds(args[2])
	}
	played, why := ch.play(true)
	if why == elapsed {
		if digit, ok := ch.typed(args[1]); ok {
			return replyf("result=%d endpos=%d", digit, samples(played))
		}
		why = ch.wait(timeout, true)
	}
	switch why {
	case interrupted:
		return answer{}
	case gone:
		return failf("result=-1 endpos=%d", samples(played))
	}
	return replyf("result=0 endpos=%d", samples(played))
}

// record hears silence until its time is over.
func (ch *channel) record(args []string) answer {
	start := time.Now()
	if ch.wait(milliseconds(args[3]), false) == gone {
		return failf("result=-1 (hangup) endpos=%d", samples(time.Since(start)))
	}
	return replyf("result=0 (timeout) endpos=%d", samples(time.Since(start)))
}

// receive asks for text, which a telephone doesn't send.
func (ch *channel) receive([]string) answer {
	return failf("result=-1 (hangup)")
}
