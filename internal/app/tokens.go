package app

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"agiproxy/config"
	"agiproxy/proxy"
)

const (
	shortestToken = 16       // bytes; what is shorter can be tried out
	mostTokens    = 1000     // each is compared for each session
	maxTokenFile  = 64 << 10 // bytes
)

// tokens reads the token files of all listeners, and warns of those that are open to
// others.
func (a *App) tokens(cfg *config.Config) (all [][]proxy.Token, err error) {
	for _, l := range cfg.Listeners {
		tokens, mode, err := readTokens(&l)
		if err != nil {
			return nil, err
		}
		if mode.Perm()&0o004 != 0 {
			a.log.Warn("token file can be read by others", "listener", l.Address, "file", l.TokenFile, "mode", mode.Perm().String())
		}
		all = append(all, tokens)
	}
	return all, nil
}

// readTokens reads a listener's token file, if it has one. No error tells what is in
// it.
func readTokens(l *config.Listener) (tokens []proxy.Token, mode os.FileMode, err error) {
	if l.TokenFile == "" {
		return nil, 0, nil
	}
	fail := func(err error) ([]proxy.Token, os.FileMode, error) {
		return nil, 0, fmt.Errorf("listener %s: token_file: %w", l.Address, err)
	}
	f, err := os.Open(l.TokenFile)
	if err != nil {
		return fail(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fail(err)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxTokenFile+1))
	if err != nil {
		return fail(err)
	}
	if len(text) > maxTokenFile {
		return fail(fmt.Errorf("%s: more than %d KiB", l.TokenFile, maxTokenFile>>10))
	}
	if tokens, err = parseTokens(text); err != nil {
		return fail(fmt.Errorf("%s: %w", l.TokenFile, err))
	}
	return tokens, info.Mode(), nil
}

// parseTokens takes one token a line.
func parseTokens(text []byte) (tokens []proxy.Token, err error) {
	n := 0
	for line := range bytes.Lines(text) {
		n++
		line = bytes.TrimSpace(line)
		switch {
		case len(line) == 0 || line[0] == '#':
		case len(line) < shortestToken:
			return nil, fmt.Errorf("line %d: a token of %d characters; want at least %d", n, len(line), shortestToken)
		case bytes.ContainsAny(line, "& ,\t\"'\\") || bytes.ContainsFunc(line, func(r rune) bool { return r < ' ' || r > '~' }):
			return nil, fmt.Errorf("line %d: a token with a character that would not pass through a dialplan's URL; want letters, digits and such as - _ . + / =", n)
		case len(tokens) == mostTokens:
			return nil, fmt.Errorf("line %d: too many tokens; want at most %d", n, mostTokens)
		default:
			tokens = append(tokens, proxy.NewToken(line))
		}
	}
	if len(tokens) == 0 {
		return nil, errors.New("no token in it, so that nobody could call; want one a line")
	}
	return tokens, nil
}
