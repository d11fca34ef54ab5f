/*
 * Run under strace as `node traced.mjs <library> <folder> <operation>`: does the operation twice, to be warm, and then once
 * between two looks for a file whose name says so.
 */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { contenders } from './cycle.mjs'

const [library, folder, operation] = process.argv.slice(2)
const { acquireLock, acquireLockSync } = await import(library)
const operations = contenders({ acquireLock, acquireLockSync }, folder)

const file = join(folder, 'held')
const held = await acquireLock(file)
operations.renew = { call: () => held.renew() }
operations.refusal = { call: () => acquireLock(file).catch(() => {}) }

const { call } = operations[operation]
await call()
await call()
existsSync('/bench-begin')
await call()
existsSync('/bench-end')
await held.release()
