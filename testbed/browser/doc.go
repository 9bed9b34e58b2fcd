// Package browser looks at agiproxy's status page with a real browser: a headless
// Chromium, which shows what backends do while calls go on, and is operated by
// mouse and keyboard. It has a module of its own, since only it needs chromedp.
//
// It takes a browser and some seconds, so it is skipped unless asked for:
//
//	testbed/browser/run
package browser
