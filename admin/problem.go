package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
)

// Errors that a [Controller] returns, with what was wrong wrapped around them.
// Any other is the request's fault, such as a configuration that can't be
// reloaded, or a program that can't take over.
var (
	ErrNotFound = errors.New("not found")
	ErrConflict = errors.New("not possible now")
	ErrTooMany  = errors.New("ask again later")
)

// A refusal is an error with its status.
type refusal struct {
	status int
	detail string
}

func (r *refusal) Error() string { return r.detail }

func refuse(status int, format string, args ...any) error {
	return &refusal{status, fmt.Sprintf(format, args...)}
}

// problem answers with what was wrong.
func problem(w http.ResponseWriter, err error) {
	status := http.StatusUnprocessableEntity
	if r, ok := errors.AsType[*refusal](err); ok {
		status = r.status
	} else if errors.Is(err, ErrNotFound) {
		status = http.StatusNotFound
	} else if errors.Is(err, ErrConflict) {
		status = http.StatusConflict
	} else if errors.Is(err, ErrTooMany) {
		status = http.StatusTooManyRequests
	}
	send(w, status, "application/problem+json", Problem{
		Type: "about:blank", Title: http.StatusText(status), Status: status, Detail: err.Error(),
	})
}

// send answers with JSON.
func send(w http.ResponseWriter, status int, contentType string, v any) {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	_ = e.Encode(v) // a client that is gone needs no answer
}
