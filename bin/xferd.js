#!/usr/bin/env node
// Node 22 and later keep compiled code between runs.
require('node:module').enableCompileCache?.()
require('../dist/cli.js').run()
