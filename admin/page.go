package admin

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"time"
)

// The status page: files as they are, which the browser runs without any build.
// They may refer to each other and to the API, and to nothing else.
//
//go:embed page
var pageFiles embed.FS

// pagePolicy has the browser refuse what the page doesn't need, so that nothing
// which a caller or a configuration puts into it could ever run.
//
// Source: https://www.w3.org/TR/CSP3/
const pagePolicy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// pageTypes are set here since the system's own may be anything, and a browser
// runs no script of the wrong one.
var pageTypes = map[string]string{
	".html": "text/html; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".svg":  "image/svg+xml",
}

// registerPage adds the status page to mux: index.html as /, the others below
// /page/.
func registerPage(mux *http.ServeMux) {
	files, err := fs.Glob(pageFiles, "page/*")
	if err != nil {
		panic(err) // the pattern is bad
	}
	for _, name := range files {
		content, err := pageFiles.ReadFile(name)
		if err != nil {
			panic(err) // it's in the program
		}
		pattern := "/" + name
		if name == "page/index.html" {
			pattern = "/{$}"
		}
		mux.Handle("GET "+pattern, pageFile(name, content))
	}
}

// pageFile serves one file. The browser asks each time whether it has the right
// one, since the next agiproxy may have another.
func pageFile(name string, content []byte) http.Handler {
	tag := fmt.Sprintf(`"%x"`, sha256.Sum256(content))
	kind := pageTypes[path.Ext(name)]
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Type", kind)
		h.Set("Content-Security-Policy", pagePolicy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-cache")
		h.Set("ETag", tag)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
	})
}
