package config

import (
	"time"

	"agiproxy/agi"
)

// Each of these is a fresh copy, over which a section is decoded.

func defaultConfig() Config {
	return Config{
		Listeners:    []Listener{defaultListener()},
		Admin:        Admin{Address: "127.0.0.1:9577"},
		DrainTimeout: 5 * time.Minute,
		Engine:       "auto",
		Log:          Log{Level: "info", Format: "text"},
	}
}

func defaultListener() Listener {
	return Listener{
		Address:        ":4577",
		Allow:          privateNetworks(),
		MaxSessions:    20000,
		HeaderTimeout:  5 * time.Second,
		MaxHeaderBytes: 64 << 10,
	}
}

func defaultPool() Pool {
	return Pool{
		Balance:         "least-connections",
		HashField:       "agi_uniqueid",
		ConnectTimeout:  time.Second,
		HedgeDelay:      250 * time.Millisecond,
		DispatchTimeout: 20 * time.Second,
		Attempts:        3,
		Replay:          "unread",
		OnBackendLoss:   "failure",
		HangupTimeout:   time.Minute,
		Fallback:        Fallback{Then: "failure"},
		Commands:        Commands{MaxLine: agi.MaxLine},
		Health: Health{
			Probe:        "agi",
			Script:       "agiproxy-probe",
			Expect:       "any",
			OnDown:       "keep",
			Interval:     2 * time.Second,
			FastInterval: 500 * time.Millisecond,
			Timeout:      time.Second,
			Rise:         2,
			Fall:         3,
		},
		Ejection:       Ejection{Failures: 3, Time: 10 * time.Second, MaxTime: 5 * time.Minute, MaxPercent: 50},
		PanicThreshold: 50,

		SendProxyProtocol: "none",
	}
}

func defaultBackend() Backend { return Backend{Weight: 1} }
