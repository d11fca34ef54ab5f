#!/usr/bin/env node
const { enableCompileCache } = process.getBuiltinModule('node:module') as { enableCompileCache?: () => unknown }

// From Node 22.8 on, what is loaded after this is compiled once and for all.
enableCompileCache?.()
await import('./main.js')
