package browser

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// patience is how long something may take to be seen on a busy machine.
const patience = 20 * time.Second

// A browser has one page open.
type browser struct {
	t   *testing.T
	ctx context.Context

	mu         sync.Mutex
	complaints []string
}

// open starts a browser, and opens the page. It notes what the page's scripts or
// its policy complain of.
func open(t *testing.T, url string) *browser {
	t.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath("chromium"), chromedp.NoSandbox, chromedp.WindowSize(1280, 900))
	ctx, end := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(end)
	ctx, end = chromedp.NewContext(ctx)
	t.Cleanup(end)
	b := &browser{t: t, ctx: ctx}
	if err := chromedp.Listen(ctx, b.hear); err != nil { // which starts the browser
		t.Fatal(err)
	}
	b.do(chromedp.Navigate(url))
	return b
}

// hear notes complaints.
func (b *browser) hear(event any) {
	complaint := ""
	switch e := event.(type) {
	case *log.EventEntryAdded:
		if e.Entry.Level == log.EntryLevelError || e.Entry.Level == log.EntryLevelWarning {
			complaint = fmt.Sprintf("%s: %s (%s)", e.Entry.Source, e.Entry.Text, e.Entry.URL)
		}
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.ConsoleAPICalledTypeError || e.Type == runtime.ConsoleAPICalledTypeWarning {
			complaint = fmt.Sprintf("console: %v", e.Args)
		}
	case *runtime.EventExceptionThrown:
		complaint = fmt.Sprintf("exception: %s %s", e.ExceptionDetails.Text, e.ExceptionDetails.URL)
	}
	if complaint != "" {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.complaints = append(b.complaints, complaint)
	}
}

// complained returns the complaints so far, and forgets them.
func (b *browser) complained() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	defer func() { b.complaints = nil }()
	return slices.Clone(b.complaints)
}

// do does one thing after the other.
func (b *browser) do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		b.t.Fatal(err)
	}
}

// click clicks on what a CSS selector finds, once it is there.
func (b *browser) click(selector string) {
	b.t.Helper()
	b.do(chromedp.Click(chromedp.CSS(selector)))
}

// run runs a statement in the page.
func (b *browser) run(statement string) {
	b.t.Helper()
	b.do(chromedp.Evaluate[chromedp.Void](statement))
}

// see returns what an expression is, or what it promises.
func see[T any](b *browser, expression string) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	value, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		b.t.Fatalf("%s: %v", expression, err)
	}
	return value
}

// await waits until an expression is true.
func (b *browser) await(what, expression string) {
	b.t.Helper()
	for late := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		if see[bool](b, "Boolean("+expression+")") {
			return
		}
		if time.Now().After(late) {
			b.t.Fatalf("%s: not within %v; the page says\n%s", what, patience, see[string](b, `document.body.innerText.slice(0, 2000)`))
		}
	}
}

// size has the page be that wide and high.
func (b *browser) size(width, height int64, phone bool) {
	b.t.Helper()
	scale := 1.0
	if phone {
		scale = 2
	}
	b.do(command(emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{
		Width: width, Height: height, DeviceScaleFactor: scale, Mobile: phone,
	}))
}

// prefer has the reader prefer a colour scheme.
func (b *browser) prefer(scheme string) {
	b.t.Helper()
	b.do(command(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
	}))
}

func command[P, R any](c cdp.Command[P, R], params P) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, c, params)
		return err
	})
}

// picture keeps what the page looks like now, in a file below
// AGIPROXY_BROWSER_ARTEFACTS.
func (b *browser) picture(name string) {
	b.t.Helper()
	dir := os.Getenv("AGIPROXY_BROWSER_ARTEFACTS")
	if dir == "" {
		return
	}
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	png, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, name+".png"), png, 0o600)
	}
	if err != nil {
		b.t.Error(err)
	}
}

// row is an expression for a backend's row.
func row(backend string) string {
	return fmt.Sprintf(`[...document.querySelectorAll('.pool tbody tr')].find((r) => r.querySelector('.name .main').textContent === '%s')`, backend)
}

// state is an expression for what a backend's row says of its state.
func state(backend string) string {
	return row(backend) + `?.querySelector('.state .badge > span').textContent`
}

// label is an expression for the label of what has the focus.
const label = `(document.activeElement.getAttribute('aria-label') ?? document.activeElement.textContent).trim()`

func lines(list []string) string { return strings.Join(list, "\n") }
