// Package sim is a network in memory with virtual time, for tests: the surface
// of package loop over a simulated TCP instead of sockets.
//
// Time only passes in [Net.Run], from one event to the next, and everything
// that is left to chance comes from one seed: a run that has failed fails again
// in the same way. What the simulated TCP does with closes, resets and
// acknowledgements is what Linux does; a table of cases that runs over loop and
// sim alike holds it to that.
package sim
