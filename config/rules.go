package config

import (
	"errors"
	"fmt"
	"strings"

	"gopkg.in/yaml.v3"

	"agiproxy/agi"
)

const (
	// maxRules bounds what a command is compared with.
	maxRules = 200
	// maxRuleWords is more than is needed for a command and an application.
	maxRuleWords = 8
	maxRuleBytes = 200
	// leastMaxLine leaves room for what agiproxy itself says.
	leastMaxLine = 512
)

func (d *decoder) commandsFields(c *Commands) fields {
	return fields{
		"allow":    d.rules(&c.Allow),
		"deny":     d.rules(&c.Deny),
		"strict":   d.boolean(&c.Strict),
		"max_line": d.integer(&c.MaxLine, leastMaxLine, agi.MaxLine),
	}
}

// rules decodes a list of rules.
func (d *decoder) rules(to *[]string) decode {
	return d.each(maxRules, func(key string, n *yaml.Node) {
		text, ok := d.scalar(key, n, "the first words of an AGI command, such as EXEC System")
		if !ok {
			return
		}
		if advice, err := checkRule(text); err != nil {
			d.fault(n, "%s: %s: %v%s", key, quote(text), err, advice)
			return
		}
		*to = append(*to, text)
	})
}

// checkRule tells why a rule would match nothing, or what nobody expects, with
// advice.
func checkRule(text string) (advice string, err error) {
	if len(text) > maxRuleBytes || strings.ContainsAny(text, "\r\n\x00") {
		return "", fmt.Errorf("a line break, or more than %d bytes; want the first words of an AGI command, such as EXEC System", maxRuleBytes)
	}
	words := ruleWords(text)
	switch n := len(words); {
	case n == 0:
		return "", errors.New("no word; want the first words of an AGI command, such as EXEC System")
	case n > maxRuleWords:
		return "", fmt.Errorf("%d words are too many; want at most %d", n, maxRuleWords)
	case words[n-1] == "*":
		return "", errors.New("a * alone; a rule matches whatever follows its words, and * ends a word that may go on, such as SHELL(*")
	case strings.Contains(strings.TrimSuffix(strings.Join(words, " "), "*"), "*"):
		return "", errors.New("a * that isn't at the end; it ends a last word that may go on, such as SHELL(*")
	case !known(words):
		return commandHint(text), agi.ErrUnknownCommand
	}
	return "", nil
}

// ruleWords returns a rule's words in capitals.
func ruleWords(text string) (words []string) {
	for rest, ok := []byte(text), true; ok; {
		var word []byte
		if word, rest, ok = agi.NextWord(rest, nil); ok {
			words = append(words, strings.ToUpper(string(word)))
		}
	}
	return words
}

// known reports whether there are commands that a rule of these words is about:
// one, with or without what follows it, or several that begin alike.
func known(words []string) bool {
	for c := agi.Other + 1; c < agi.Command(agi.NumCommands); c++ {
		if about(words, strings.Fields(c.String())) {
			return true
		}
	}
	return false
}

func about(words, name []string) bool {
	for i := range min(len(words), len(name)) {
		open, ok := strings.CutSuffix(words[i], "*")
		if words[i] != name[i] && !(ok && strings.HasPrefix(name[i], open)) {
			return false
		}
	}
	return true
}
