package browser

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// The steps follow each other on one page, which is never loaded again.
func TestStatusPage(t *testing.T) {
	if os.Getenv("AGIPROXY_BINARY") == "" {
		t.Skip("AGIPROXY_BINARY is not set; see testbed/browser/run")
	}
	s := newStage(t)
	s.call(t, 40)
	b := open(t, "http://"+s.admin+"/")
	b.size(1280, 1000, false)
	b.await("the page is alive", `document.getElementById('connection').textContent.includes('live')`)
	b.await("it shows a call that has ended", `document.querySelector('#endings tbody tr')`)
	b.run(`window.stays = true`)

	for _, step := range []struct {
		name string
		do   func(*testing.T, *stage, *browser)
	}{
		{"a backend that dies turns red", diesAndComesBack},
		{"drain and enable by mouse", drainsByMouse},
		{"drain by keyboard", drainsByKeyboard},
		{"what callers say is text", escapes},
		{"only failures", filters},
		{"narrow", isNarrow},
		{"dark", isDark},
		{"words can be read", contrasts},
		{"nothing was complained of", noComplaint},
		{"nothing else can run", refusesOthers},
		{"agiproxy goes away and comes back", losesAndFinds},
	} {
		ok := t.Run(step.name, func(t *testing.T) {
			b.t = t
			step.do(t, s, b)
			if !see[bool](b, `window.stays === true`) {
				t.Error("the page was loaded again")
			}
		})
		if !ok {
			b.picture("failed")
			break
		}
	}
}

func diesAndComesBack(t *testing.T, s *stage, b *browser) {
	b.await("ivr2 is up", state("ivr2")+` === 'up'`)
	s.servers["ivr2"].Kill()
	b.await("ivr2 is down", state("ivr2")+` === 'down'`)
	red := see[[]int](b, `getComputedStyle(`+row("ivr2")+`.querySelector('.badge')).color.match(/\d+/g).map(Number)`)
	if red[0] < 2*red[1] || red[0] < 2*red[2] {
		t.Errorf("its colour is rgb(%v); want a red one", red)
	}
	if why := see[string](b, row("ivr2")+`.querySelector('.state .more').textContent`); !strings.Contains(why, "refused") {
		t.Errorf("its reason is %q; want that it was refused", why)
	}
	const told = "ivr2 of pool ivr is down"
	b.await("a screen reader is told", `document.getElementById('changes').textContent.includes('`+told+`')`)
	if live := see[string](b, `document.getElementById('changes').getAttribute('aria-live')`); live != "polite" {
		t.Errorf("changes are told as aria-live=%q; want polite", live)
	}
	if title := see[string](b, `document.title`); title != "1 down · agiproxy" {
		t.Errorf("the title is %q; want that one is down", title)
	}
	b.picture("down")
	s.servers["ivr2"].start(t)
	b.await("ivr2 is up again", state("ivr2")+` === 'up'`)
}

// button is a selector for the one that does something to a backend.
func button(verb, pool, backend string) string {
	return fmt.Sprintf(`button[aria-label="%s %s of pool %s"]`, verb, backend, pool)
}

const dialogOpen = `document.getElementById('confirm').open`

func drainsByMouse(t *testing.T, s *stage, b *browser) {
	drain, enable := button("Drain", "ivr", "ivr1"), button("Enable", "ivr", "ivr1")
	b.click(drain)
	b.await("it asks", dialogOpen)
	if title := see[string](b, `document.getElementById('confirm-title').textContent`); title != "Drain ivr1 of pool ivr?" {
		t.Errorf("it asks %q", title)
	}
	b.click("#cancel")
	b.await("it takes no for an answer", `!`+dialogOpen)
	if is := see[string](b, state("ivr1")); is != "up" {
		t.Errorf("ivr1 is %s after Cancel; want up", is)
	}

	b.click(drain)
	b.do(chromedp.SendKeys(chromedp.CSS("#deadline"), "30"))
	b.picture("drain")
	b.click("#do")
	b.await("ivr1 is drained", state("ivr1")+` === 'drained'`)
	if why := see[string](b, row("ivr1")+`.querySelector('.state .more').textContent`); !strings.Contains(why, "by an operator") || !strings.Contains(why, "gives up at ") {
		t.Errorf("its reason is %q; want that an operator did it, and until when", why)
	}
	b.await("ivr1 has no session left", row("ivr1")+`.querySelector('.sessions .main').textContent === '0'`)

	b.click(enable)
	b.click("#do")
	b.await("ivr1 is up", state("ivr1")+` === 'up'`)
}

func drainsByKeyboard(t *testing.T, s *stage, b *browser) {
	b.run(`document.activeElement.blur()`)
	for range 60 {
		b.do(chromedp.KeyEvent(kb.Tab))
		if see[string](b, label) == "Drain bill2 of pool billing" {
			break
		}
	}
	if got := see[string](b, label); got != "Drain bill2 of pool billing" {
		t.Fatalf("after 60 tabs the focus is on %q; want to have met Drain bill2", got)
	}
	if outline := see[string](b, `getComputedStyle(document.activeElement).outlineStyle`); outline != "solid" {
		t.Errorf("what has the focus has the outline %q; want a solid one", outline)
	}
	b.do(chromedp.KeyEvent(kb.Enter))
	b.await("it asks", dialogOpen)
	b.do(chromedp.KeyEvent(kb.Escape))
	b.await("Escape is no", `!`+dialogOpen)
	if got := see[string](b, label); got != "Drain bill2 of pool billing" {
		t.Errorf("after Escape the focus is on %q; want it where it was", got)
	}
	b.do(chromedp.KeyEvent(kb.Enter))
	b.await("it asks again", dialogOpen)
	for range 10 {
		if see[string](b, label) == "Drain" {
			break
		}
		b.do(chromedp.KeyEvent(kb.Tab))
	}
	b.do(chromedp.KeyEvent(kb.Enter))
	b.await("bill2 is drained", state("bill2")+` === 'drained'`)
	b.await("the focus is on its button, which enables now", label+` === 'Enable bill2 of pool billing'`)

	b.click(button("Drain", "billing", "bill1"))
	b.await("it warns of draining the last one", `document.getElementById('confirm-warning').checkVisibility()`)
	b.click("#cancel")
	b.click(button("Enable", "billing", "bill2"))
	b.click("#do")
	b.await("bill2 is up", state("bill2")+` === 'up'`)
}

func escapes(t *testing.T, s *stage, b *browser) {
	const evil = `<img src=x onerror=document.title=1>`
	s.one(t.Context(), evil, evil, "menu/"+strings.ReplaceAll(evil, " ", "+"))
	b.await("what the caller said is there as text",
		fmt.Sprintf(`[...document.querySelectorAll('#endings .caller')].some((c) => c.textContent === %q)`, evil))
	if n := see[int](b, `document.images.length`); n != 0 {
		t.Errorf("the page has %d images; want none", n)
	}
}

func filters(t *testing.T, s *stage, b *browser) {
	const shown = `[...document.querySelectorAll('#endings tbody tr')].filter((r) => r.checkVisibility())`
	b.click("#failures-only")
	if n := see[int](b, shown+`.filter((r) => r.querySelector('.badge').textContent.includes('completed')).length`); n != 0 {
		t.Errorf("%d calls that have completed are shown among the failures", n)
	}
	b.click("#failures-only")
	b.click("#hold")
	top := see[string](b, `document.querySelector('#endings tbody tr').textContent`)
	b.await("others wait", `/new/.test(document.getElementById('held').textContent)`)
	if now := see[string](b, `document.querySelector('#endings tbody tr').textContent`); now != top {
		t.Errorf("while it holds, the first is %q and then %q", top, now)
	}
	b.click("#hold")
	if now := see[string](b, `document.querySelector('#endings tbody tr').textContent`); now == top {
		t.Error("what waited isn't shown")
	}
}

func isNarrow(t *testing.T, s *stage, b *browser) {
	for _, width := range []int64{390, 320, 700, 800, 1000} {
		b.size(width, 844, width < 500)
		if got := see[int64](b, `document.documentElement.scrollWidth`); got > width {
			wide := see[[]string](b, `[...document.querySelectorAll('body *')].filter((e) => e.getBoundingClientRect().right > innerWidth + 1).map((e) => e.tagName + '.' + e.className).slice(0, 10)`)
			t.Errorf("at %d pixels it is %d wide: %v", width, got, wide)
		}
	}
	b.size(390, 844, true)
	b.run(`scrollTo(0, 0)`)
	b.picture("phone")
	b.run(`document.querySelector('.pool').scrollIntoView()`)
	b.picture("phone-pool")
	b.run(`document.getElementById('endings').scrollIntoView()`)
	b.picture("phone-endings")
	b.click(button("Drain", "ivr", "ivr1"))
	b.picture("phone-drain")
	b.click("#cancel")
	b.size(1280, 1000, false)
	b.run(`scrollTo(0, 0)`)
}

func isDark(t *testing.T, s *stage, b *browser) {
	const ground = `getComputedStyle(document.body).backgroundColor.match(/\d+/g).map(Number).reduce((a, b) => a + b) / 3`
	b.prefer("dark")
	if n := see[float64](b, ground); n > 40 {
		t.Errorf("in the dark its ground is %v of 255; want dark", n)
	}
	b.picture("dark")
	b.prefer("light")
	if n := see[float64](b, ground); n < 220 {
		t.Errorf("in the light its ground is %v of 255; want light", n)
	}
	b.picture("light")
}

// contrast finds text with less contrast than 4.5 to what is behind it.
//
// Source: https://www.w3.org/TR/WCAG22/#contrast-minimum
const contrast = `(() => {
	const parts = (c) => c.match(/[\d.]+/g).map(Number);
	const light = (c) => parts(c).slice(0, 3).map((v) => v / 255).map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
		.reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
	const ground = (e) => {
		for (; e; e = e.parentElement) {
			const c = getComputedStyle(e).backgroundColor;
			if (parts(c)[3] !== 0) return c;
		}
		return 'rgb(255, 255, 255)';
	};
	const told = (e) => [...e.childNodes].some((n) => n.nodeType === Node.TEXT_NODE && n.textContent.trim() !== '');
	return [...document.querySelectorAll('body *')].filter((e) => told(e) && e.checkVisibility()).flatMap((e) => {
		const [a, b] = [light(getComputedStyle(e).color), light(ground(e))];
		const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
		return ratio < 4.5 ? [ratio.toFixed(1) + ' ' + e.tagName + '.' + e.className + ' ' + e.textContent.slice(0, 40)] : [];
	}).slice(0, 10);
})()`

func contrasts(t *testing.T, s *stage, b *browser) {
	for _, scheme := range []string{"dark", "light"} {
		b.prefer(scheme)
		if faint := see[[]string](b, contrast); len(faint) > 0 {
			t.Errorf("in the %s scheme these have too little contrast:\n%s", scheme, lines(faint))
		}
	}
}

func noComplaint(t *testing.T, s *stage, b *browser) {
	if all := b.complained(); len(all) > 0 {
		t.Errorf("the browser complains:\n%s", lines(all))
	}
}

// The policy that the page works under is really in force.
func refusesOthers(t *testing.T, s *stage, b *browser) {
	const try = `(async () => {
		const refused = [];
		document.addEventListener('securitypolicyviolation', (e) => refused.push(e.effectiveDirective));
		const script = document.createElement('script');
		script.textContent = 'window.ran = true';
		document.body.append(script);
		const div = document.createElement('div');
		document.body.append(div);
		div.setAttribute('style', 'color: red');
		await fetch('http://127.0.0.1:1/').catch(() => {});
		await new Promise((done) => setTimeout(done, 0));
		script.remove();
		div.remove();
		return [...new Set(refused)].sort().join(' ') + (window.ran ? ' but it ran' : '');
	})()`
	refused := see[string](b, try)
	if want := "connect-src script-src-elem style-src-attr"; refused != want {
		t.Errorf("refused were %q; want %q", refused, want)
	}
	b.complained() // of these
}

func losesAndFinds(t *testing.T, s *stage, b *browser) {
	// Nobody closes the connection of a process that stands still, or of a network.
	const lost = `document.getElementById('lost').checkVisibility()`
	if err := s.process.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	b.await("it finds that agiproxy is silent", lost)
	if err := s.process.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	b.await("it is live when agiproxy goes on", `!`+lost)

	s.end(t)
	b.await("it says that the connection is lost", lost)
	if text := see[string](b, `document.getElementById('lost').textContent`); !strings.Contains(text, "lost") {
		t.Errorf("it says %q", text)
	}
	b.picture("lost")
	s.start(t)
	b.await("it is live again", `!`+lost+` && document.getElementById('connection').textContent.includes('live')`)
	b.await("it shows the new process's calls", `document.querySelector('#endings tbody tr')`)
	b.complained() // that nobody answered
}
