/*
 * The package, installed from its tarball, in every runtime that npm has: `node test/runtimes.mjs TARBALL`.
 *
 * Each runs the same program and the same commands, and holds a lock that Node looks at: all of them must agree on who is alive.
 * Says which ran; exit status 1 when one failed, or could not be installed.
 */
import { spawn, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'

const tarball = resolve(process.argv[2])
const folder = mkdtempSync(join(tmpdir(), 'lockpact-runtimes-'))
const RUNTIMES = {
  node: { start: [process.execPath] },
  'node 22': { install: 'n22@npm:node@22', start: ['node_modules/n22/bin/node'] },
  'node 24': { install: 'n24@npm:node@24', start: ['node_modules/n24/bin/node'] },
  'node 26': { install: 'n26@npm:node@26', start: ['node_modules/n26/bin/node'] },
  bun: { install: 'bun@1', start: ['node_modules/.bin/bun'] },
  deno: { install: 'deno@2', start: ['node_modules/.bin/deno', 'run', '-A', '--no-lock'] },
}

const PROGRAM = `
import { acquireLock, acquireLockSync, inspectLock, isLockError, releaseLock, withLock } from 'lockpact'
import { appendLine, finishItem, tailLines, takeItem, updateFile } from 'lockpact/files'
import { declareWrites, gate, initWorkspace, listSlots, readEvents } from 'lockpact/work'
const is = (what, found, wanted) => { if (JSON.stringify(found) !== JSON.stringify(wanted)) throw new Error(what + ': ' + JSON.stringify(found) + ', not ' + JSON.stringify(wanted)) }
const codeOf = (error) => isLockError(error) && error.code
initWorkspace('.')
const lock = await acquireLock('queue.md', { owner: 'me' })
is('refused', await acquireLock('queue.md').catch(codeOf), 'ELOCKED')
is('alive', inspectLock('queue.md').verdict, 'alive')
is('waits', await Promise.all([acquireLock('queue.md', { wait: '5s' }).then((next) => next.release()), lock.release()]), [true, true])
is('sync', acquireLockSync('queue.md').release(), true)
const detached = await acquireLock('name:deploy', { detached: true })
await releaseLock('name:deploy', detached.token)
is('withLock', await withLock('queue.md', ({ held }) => held), true)
is('update', (await updateFile('queue.md', (text) => text + '- [ ] an item\\n')).changed, true)
const taken = await takeItem('queue.md', { owner: 'me' })
await finishItem('queue.md', taken.token, { result: 'done' })
is('queue', (await tailLines('queue.md', 1))[0], '- [x] an item (done)')
await appendLine('log.md', 'a line')
const answer = await gate('heartbeat', { owner: 'me' })
is('running', (await gate('heartbeat')).reason, 'running')
await answer.complete('shipped')
is('cooldown', (await gate('heartbeat', { cooldown: '1h' })).note, 'shipped')
const intent = await declareWrites({ task: 'one', writes: ['docs'] })
is('declared', await declareWrites({ task: 'two', writes: ['docs/a.md'] }).catch(codeOf), 'ELOCKED')
is('withdrawn', await intent.release(), true)
is('slots', listSlots().length, 1)
is('events', readEvents().map(({ type }) => type), ['skipped', 'skipped', 'conflict'])
`
const HOLDER = `import { acquireLock } from 'lockpact'; await acquireLock('held.md', { owner: 'holder' }); console.log('held'); setInterval(() => {}, 1000)`
const REQUIRE = `const { acquireLockSync } = require('lockpact'); const { gate } = require('lockpact/work'); if (!acquireLockSync('required.md').release() || typeof gate !== 'function') process.exit(1)`

let checks = 0
const failures = []

function check(what, found, wanted) {
  checks++
  if (JSON.stringify(found) !== JSON.stringify(wanted)) failures.push(`${what}: ${JSON.stringify(found)}, not ${JSON.stringify(wanted)}`)
}

function install() {
  writeFileSync(join(folder, 'package.json'), '{"private":true}')
  const wanted = Object.values(RUNTIMES).flatMap(({ install: name }) => name ?? [])
  const { status, stderr } = spawnSync('npm', ['install', '--no-audit', '--no-fund', tarball, ...wanted], { cwd: folder, encoding: 'utf8' })
  if (status !== 0) failures.push(`npm install: ${stderr.slice(-2_000)}`)
}

async function tryOut(name, start) {
  const [program, ...args] = start.map((word) => (word.startsWith('node_modules') ? join(folder, word) : word))
  const place = join(folder, name.replace(' ', ''))
  mkdirSync(place)
  const file = (base, text) => {
    writeFileSync(join(place, base), text)
    return base
  }
  const run = (...words) => spawnSync(program, [...args, ...words], { cwd: place, encoding: 'utf8', timeout: 60_000, env: { ...process.env, LOCKPACT_SESSION: '', CLAUDE_CODE_SESSION_ID: '' } })
  const lockpact = (...words) => run(join(folder, 'node_modules/lockpact/dist/cli/main.js'), ...words)

  const { status, stderr } = run(file('program.mjs', PROGRAM))
  check(`${name}: the library`, [status, status === 0 ? '' : stderr.slice(-1_000)], [0, ''])
  if (name.startsWith('node')) check(`${name}: require`, run(file('require.cjs', REQUIRE)).status, 0)

  const token = lockpact('acquire', 'a.md', '-q').stdout.trim()
  check(`${name}: acquire`, token.length, 36)
  check(`${name}: refused`, lockpact('acquire', 'a.md', '-q').status, 75)
  check(`${name}: release`, lockpact('release', 'a.md', '--token', token, '-q').status, 0)
  check(`${name}: run`, lockpact('run', '--slot', 's', '--lock', 'a.md', '-q', '--', 'sh', '-c', 'ls *.lock > seen; exit 3').status, 3)
  check(`${name}: held while it ran`, existsSync(join(place, 'seen')) && readFileSync(join(place, 'seen'), 'utf8'), 'a.md.lock\n')
  check(`${name}: gate`, JSON.parse(lockpact('gate', 's', '--json', '-q').stdout || '{}').go, true)
  check(`${name}: skipped`, lockpact('gate', 's', '-q').status, 75)

  // Who holds it there is alive for Node, and then dead.
  const holder = spawn(program, [...args, file('holder.mjs', HOLDER)], { cwd: place, stdio: ['ignore', 'pipe', 'inherit'] })
  await new Promise((done) => holder.stdout.once('data', done).once('end', done))
  const { inspectLock, acquireLock } = await import(join(folder, 'node_modules/lockpact/dist/index.js'))
  check(`${name}: alive for Node`, inspectLock(join(place, 'held.md')).verdict, 'alive')
  holder.kill('SIGKILL')
  await new Promise((done) => holder.once('exit', done))
  const next = await acquireLock(join(place, 'held.md')).catch((error) => error)
  check(`${name}: recovered from at once`, next.recovered?.owner, 'holder')
  await next.release?.()
  const version = run(file('version.mjs', `console.log(globalThis.Bun?.version ?? globalThis.Deno?.version.deno ?? process.version)`)).stdout.trim()
  console.log(`-- ${name}: ${version}`)
}

try {
  install()
  if (failures.length === 0) for (const [name, { start }] of Object.entries(RUNTIMES)) await tryOut(name, start)
} finally {
  rmSync(folder, { recursive: true, force: true, maxRetries: 5 })
}
for (const failure of failures) console.log(failure)
console.log(`${Object.keys(RUNTIMES).length} runtimes, ${checks - failures.length} checks passed, ${failures.length} failed`)
process.exit(failures.length === 0 ? 0 : 1)
