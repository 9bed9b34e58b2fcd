package admin

import (
	"context"
	"log/slog"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/exporter-toolkit/web"
)

// CheckWebConfig says what is wrong with a file of TLS and users, in the format
// of Prometheus' exporter-toolkit:
// https://prometheus.io/docs/prometheus/latest/configuration/https/
func CheckWebConfig(file string) error { return web.Validate(file) }

// toolkitLog gives the exporter-toolkit's log to ours.
type toolkitLog struct{ log hclog.Logger }

func (t toolkitLog) Enabled(_ context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn // that it listens is said already
}

func (t toolkitLog) Handle(_ context.Context, r slog.Record) error {
	var args []any
	r.Attrs(func(a slog.Attr) bool {
		args = append(args, a.Key, a.Value.String())
		return true
	})
	level := hclog.Warn
	if r.Level >= slog.LevelError {
		level = hclog.Error
	}
	t.log.Log(level, r.Message, args...)
	return nil
}

func (t toolkitLog) WithAttrs([]slog.Attr) slog.Handler { return t }
func (t toolkitLog) WithGroup(string) slog.Handler      { return t }
