package health

import (
	"strings"
	"testing"
)

func TestVerdictByRiseAndFall(t *testing.T) {
	for _, test := range []struct {
		name    string
		verdict verdict
		results string // + healthy, - not
		want    string // after each result: U up, u up and wavering, D and d
	}{
		{"a success leaves it up", verdict{up: true, rise: 2, fall: 3}, "++", "UU"},
		{"fall failures take it down", verdict{up: true, rise: 2, fall: 3}, "----", "uuDD"},
		{"a success between breaks the streak", verdict{up: true, rise: 2, fall: 3}, "--+---", "uuUuuD"},
		{"rise successes bring it up", verdict{rise: 2, fall: 3}, "+++", "dUU"},
		{"a failure between breaks the rise", verdict{rise: 2, fall: 3}, "+-++", "dDdU"},
		{"and down again takes fall", verdict{rise: 2, fall: 3}, "++---", "dUuuD"},
		{"rise and fall of one", verdict{up: true, rise: 1, fall: 1}, "-+-", "DUD"},
		{"fresh: the first failure counts", verdict{up: true, fresh: true, rise: 2, fall: 3}, "-+-++", "DdDdU"},
		{"fresh: only the first", verdict{up: true, fresh: true, rise: 2, fall: 3}, "+---", "UuuD"},
		{"fresh and down: the first success counts", verdict{fresh: true, rise: 2, fall: 3}, "+--", "Uuu"},
	} {
		t.Run(test.name, func(t *testing.T) {
			v := test.verdict
			var got strings.Builder
			for _, result := range test.results {
				before := v.up
				turned := v.add(result == '+')
				if turned != (before != v.up) {
					t.Errorf("add() = %v; the verdict went from %v to %v", turned, before, v.up)
				}
				state := map[bool]string{true: "U", false: "D"}[v.up]
				if v.wavering() {
					state = strings.ToLower(state)
				}
				got.WriteString(state)
			}
			if got.String() != test.want {
				t.Errorf("results %s give %s; want %s", test.results, got.String(), test.want)
			}
		})
	}
}
