// Package exhaust attacks what agiproxy has little of: descriptors, memory, its
// loops' time. Its tests run the real program, and see that what an attacker can make
// it hold has a bound, that silence costs nothing, and that calls which have nothing to
// do with the attack are served as before.
package exhaust
