package config

import (
	"fmt"
	"strings"
)

// hint asks whether one of words was meant by s, or is "".
func hint(s string, words []string) string {
	if guess := nearest(s, words); guess != "" {
		return fmt.Sprintf("; did you mean %s?", guess)
	}
	return ""
}

// nearest is the word that s was probably meant to be: one that is longer or
// shorter at its end (leastconn), dashes aside, or else the one with the fewest changes of a
// letter, if that is at most one in three; "" if none is.
func nearest(s string, words []string) string {
	best, fewest := "", len(s)/3+1
	if len(s) > 40 { // no key is that long
		return ""
	}
	joined := strings.NewReplacer("-", "", "_", "")
	for _, w := range words {
		if a, b := joined.Replace(s), joined.Replace(w); len(a) >= 4 && strings.HasPrefix(b, a) || len(b) >= 4 && strings.HasPrefix(a, b) {
			return w
		}
		if n := changes(s, w); n < fewest {
			best, fewest = w, n
		}
	}
	return best
}

// changes counts the letters to insert, remove or replace to make b of a
// (Levenshtein's distance).
func changes(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
