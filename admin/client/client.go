// Package client calls the API of agiproxy's admin port.
package client

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"

	"agiproxy/admin"
)

// Options say where the API is and who asks. Only URL is needed.
type Options struct {
	URL      string // such as http://127.0.0.1:9577; a bare HOST:PORT is http
	CAFile   string // who has signed its certificate; "" is whom the system trusts
	CertFile string // our certificate, and its key
	KeyFile  string
	User     string
	Password string
}

// A Client calls the API. It is safe for concurrent use.
type Client struct {
	opts Options
	base *url.URL
	http http.Client
}

// New returns a client. The error is a bad URL's or file's; nothing is connected
// to yet.
func New(o Options) (*Client, error) {
	if !strings.Contains(o.URL, "://") {
		o.URL = "http://" + o.URL
	}
	base, err := url.Parse(o.URL)
	if err != nil {
		return nil, err
	}
	if base.Scheme != "http" && base.Scheme != "https" || base.Host == "" {
		return nil, fmt.Errorf("%q; want http://HOST:PORT or https://HOST:PORT", o.URL)
	}
	conf, err := tlsConfig(o)
	if err != nil {
		return nil, err
	}
	return &Client{
		opts: o,
		base: base.JoinPath("api", "v1"),
		http: http.Client{Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: conf}},
	}, nil
}

func tlsConfig(o Options) (*tls.Config, error) {
	conf := new(tls.Config)
	if o.CAFile != "" {
		text, err := os.ReadFile(o.CAFile)
		if err != nil {
			return nil, err
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("%s has no certificate", o.CAFile)
		}
	}
	if o.CertFile != "" || o.KeyFile != "" {
		pair, err := tls.LoadX509KeyPair(o.CertFile, o.KeyFile)
		if err != nil {
			return nil, err
		}
		conf.Certificates = []tls.Certificate{pair}
	}
	return conf, nil
}

// Close closes connections that are kept open.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// A Refusal is an answer that the API has refused with.
type Refusal struct {
	Status int
	Detail string
}

func (r *Refusal) Error() string { return r.Detail }

// Call calls method on a path below /api/v1, which may have a query, with body as
// JSON unless it is nil, and takes the answer into v: as it came into a
// *json.RawMessage. The error is a [*Refusal] if the API was reached.
func (c *Client) Call(ctx context.Context, method, path string, body, v any) error {
	response, err := c.do(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if v == nil {
		return nil
	}
	return json.NewDecoder(response.Body).Decode(v)
}

// Stream calls each for the data of each event of a stream, until the stream
// ends, each returns an error, or ctx ends.
func (c *Client) Stream(ctx context.Context, path string, each func(data []byte) error) error {
	response, err := c.do(ctx, "GET", path, nil)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	lines := bufio.NewReader(response.Body)
	ended := false
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			if ended && errors.Is(err, io.EOF) {
				return nil
			}
			return fmt.Errorf("the stream was cut: %w", err)
		}
		ended = ended || string(line) == "event: end\n"
		if data, ok := bytes.CutPrefix(line, []byte("data: ")); ok && !ended {
			if err := each(bytes.TrimSuffix(data, []byte("\n"))); err != nil {
				return err
			}
		}
	}
}

// do returns an answer of status 200.
func (c *Client) do(ctx context.Context, method, path string, body any) (*http.Response, error) {
	path, query, _ := strings.Cut(path, "?")
	var content io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		content = bytes.NewReader(text)
	}
	at := c.base.JoinPath(path) // #nosec G125 -- names in it are escaped by those who call
	at.RawQuery = query
	request, err := http.NewRequestWithContext(ctx, method, at.String(), content)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	if c.opts.User != "" {
		request.SetBasicAuth(c.opts.User, c.opts.Password)
	}
	response, err := c.http.Do(request)
	if err != nil {
		if e, ok := errors.AsType[*url.Error](err); ok {
			err = e.Err // which says where it was to go, without the whole URL
		}
		return nil, err
	}
	if response.StatusCode == http.StatusOK {
		return response, nil
	}
	defer response.Body.Close()
	r := &Refusal{Status: response.StatusCode, Detail: response.Status}
	var p admin.Problem
	if json.NewDecoder(io.LimitReader(response.Body, 1<<20)).Decode(&p) == nil && p.Detail != "" {
		r.Detail = p.Detail
	}
	return nil, r
}
