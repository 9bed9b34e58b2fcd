package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A prometheus is a real one, which scrapes agiproxy's admin address.
type prometheus struct{ url string }

func (s *suite) startPrometheus() (*prometheus, error) {
	dir := "/lab/" + s.instance + "/prometheus"
	if err := os.MkdirAll(filepath.Join(s.root, dir), 0o755); err != nil {
		return nil, err
	}
	config := fmt.Sprintf(`global: {scrape_interval: 500ms, scrape_timeout: 500ms}
scrape_configs:
  - job_name: agiproxy
    static_configs: [{targets: ["%s"]}]
`, s.admin)
	if err := os.WriteFile(filepath.Join(s.root, dir, "prometheus.yml"), []byte(config), 0o644); err != nil {
		return nil, err
	}
	addr := freeAddr()
	p, err := s.start("prometheus", s.inLab("/usr/bin/prometheus", "--config.file="+dir+"/prometheus.yml",
		"--storage.tsdb.path="+dir+"/data", "--web.listen-address="+addr))
	if err != nil {
		return nil, err
	}
	prom := &prometheus{url: "http://" + addr}
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		resp, err := http.Get(prom.url + "/-/ready")
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return prom, nil
			}
		}
		if time.Now().After(end) {
			return nil, fmt.Errorf("prometheus is not ready; its log:\n%s", p.log())
		}
	}
}

// A sample is one series of an answer.
type sample struct {
	labels map[string]string
	value  float64
}

// query asks for the present value of an expression.
func (p *prometheus) query(expression string) ([]sample, error) {
	resp, err := http.Get(p.url + "/api/v1/query?query=" + url.QueryEscape(expression))
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var answer struct {
		Status, Error string
		Data          struct {
			Result []struct {
				Metric map[string]string
				Value  [2]any // seconds, and the value as a string
			}
		}
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return nil, fmt.Errorf("query %s: %w", expression, err)
	}
	if answer.Status != "success" {
		return nil, fmt.Errorf("query %s: %s", expression, answer.Error)
	}
	var samples []sample
	for _, series := range answer.Data.Result {
		text, _ := series.Value[1].(string)
		value, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return nil, fmt.Errorf("query %s: %w", expression, err)
		}
		samples = append(samples, sample{series.Metric, value})
	}
	return samples, nil
}

// scraped waits until Prometheus has scraped agiproxy after now.
func (p *prometheus) scraped(t *testing.T) {
	t.Helper()
	now := float64(time.Now().UnixMilli()) / 1000
	eventually(t, 10*time.Second, "a scrape of agiproxy by Prometheus", func() bool {
		samples, err := p.query(`timestamp(up{job="agiproxy"}) and up{job="agiproxy"} == 1`)
		return err == nil && len(samples) == 1 && samples[0].value > now
	})
}

// sum returns the sum of an expression's series; none are zero.
func (p *prometheus) sum(t *testing.T, expression string) float64 {
	t.Helper()
	samples, err := p.query(expression)
	if err != nil {
		t.Fatal(err)
	}
	total := 0.0
	for _, s := range samples {
		total += s.value
	}
	return total
}

// by returns an expression's series by the values of labels, joined by blanks.
func (p *prometheus) by(t *testing.T, expression string, labels ...string) map[string]float64 {
	t.Helper()
	samples, err := p.query(expression)
	if err != nil {
		t.Fatal(err)
	}
	values := make(map[string]float64)
	for _, s := range samples {
		var key []string
		for _, l := range labels {
			key = append(key, s.labels[l])
		}
		values[strings.Join(key, " ")] += s.value
	}
	return values
}
