// Package docstest holds the tests of the documentation: every example in it runs, and every table that repeats the code agrees
// with it. It has no code of its own.
//
// A fenced block says in its info string what it is:
//
//	yaml config[=FILE]      a configuration file; with FILE, the quickstart's
//	yaml resources[=FILE]   a resource file, likewise
//	yaml envoy-filter, yaml envoy-cluster, yaml envoy-hcm
//	                        a part of deploy/envoy/envoy.yaml
//	sh file=FILE, python file=FILE
//	                        a file of the quickstart
//	sql                     run as the database's administrator in the quickstart
//	console                 commands after "$ " and what they print; … stands for any text
//	sh                      commands of which only the make targets are checked
//	text, json              not run
package docstest
