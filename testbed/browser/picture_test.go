package browser

import (
	"flag"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

var pictured = flag.Bool("picture", false, "take five minutes, and then the picture for the README: status.png")

// TestPicture shows a day that isn't the best one.
func TestPicture(t *testing.T) {
	if !*pictured {
		t.Skip("there is no -picture")
	}
	s := newStage(t)
	s.prompt = 1600 * time.Millisecond
	s.call(t, 60)
	time.Sleep(70 * time.Second)
	stop := s.call(t, 50)
	time.Sleep(80 * time.Second)
	stop()
	time.Sleep(100 * time.Second)
	b := open(t, "http://"+s.admin+"/")
	b.size(1280, 1010, false)
	b.click(button("Drain", "billing", "bill2"))
	b.do(chromedp.SendKeys(chromedp.CSS("#deadline"), "30"))
	b.click("#do")
	time.Sleep(47 * time.Second)
	s.servers["ivr2"].Kill()
	b.await("ivr2 is down", state("ivr2")+` === 'down'`)
	time.Sleep(2 * time.Second)
	b.run(`document.activeElement.blur()`)
	b.picture("status")
}
