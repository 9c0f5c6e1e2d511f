package config

// What the programs tell each other by files, all below the root directory of the machine.
const (
	// Dir is where the configuration lives.
	Dir = "etc/mdclone"
	// EarlyMark tells a program that it runs in an initramfs with mdclone: the hook makes it.
	EarlyMark = Dir + "/initramfs"
	// ModulesFile lists the modules that the rescue image loads, one a line.
	ModulesFile = Dir + "/modules"
	// OptionsFile has the parameters that the machine gives to some modules, in the rescue image: one module a line, it first.
	OptionsFile = Dir + "/module-options"
	// RescueProgram is what the rescue image starts, in it.
	RescueProgram = "usr/sbin/mdclone-rescue"

	// RunDir is where is kept what must not survive a reboot; it is handed from the initramfs to the real root.
	RunDir = "run/mdclone"
	// HandoverDir is where an initramfs keeps what the real root is to take over into its VarDir.
	HandoverDir = RunDir + "/var"
	// VarDir is where is kept what must survive one.
	VarDir = "var/lib/mdclone"
	// ChoiceFile is what a boot loader brings into an initramfs about the choice of that boot.
	ChoiceFile = VarDir + "/choice.json"
)

// Names in VarDir and HandoverDir; TunablesPrefix is in RunDir too.
const (
	// LedgerDir has what is known of each clone, in a file NAME.json.
	LedgerDir = "ledger"
	// HistoryFile has one line of JSON for each account.
	HistoryFile = "history.jsonl"
	// TunablesPrefix begins the name of the record of what is changed on an array now.
	TunablesPrefix = "tunables-"
)
