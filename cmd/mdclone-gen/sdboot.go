package main

func (a *app) hasSystemdBoot(machine) bool { return false }

func (a *app) chooseSystemdBoot(machine, int64) error { return nil }

func (a *app) undoSystemdBoot(machine) ([]string, error) { return nil, nil }
