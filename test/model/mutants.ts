/*
 * The shipped protocol with a piece of its text replaced.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { build } from 'esbuild'
import type { World } from './explore.js'
import type { Operation, Protocol } from './process.js'
import { adoptingAlive, apart, apartHolder, committing, FINAL, holderAndTaker, type JumpName, LONG, lookingAfar, type LyingName, NEARLY_OVER, nudged, overdue, removing, SCRIPTS, sharedAfar, sharing, staying, sweeping, TAKING, TTL, watchedGuard, world } from './worlds.js'

const folder = join(import.meta.dirname, '../../lib/core')
const source = readFileSync(join(folder, 'protocol.ts'), 'utf8')

export type Change = [from: string, to: string]

/** Throws when a text to be replaced is not there exactly once. */
export async function loadChanged(changes: Change[]): Promise<Protocol> {
  let contents = source
  for (const [from, to] of changes) {
    const parts = contents.split(from)
    if (parts.length !== 2) throw new Error(`${parts.length - 1} times in protocol.ts: ${from}`)
    contents = parts.join(to)
  }
  const { outputFiles } = await build({ stdin: { contents, resolveDir: folder, loader: 'ts' }, bundle: true, write: false, format: 'esm', platform: 'node', target: 'es2022', logLevel: 'error' })
  return (await import(`data:text/javascript;base64,${Buffer.from(outputFiles[0]!.text).toString('base64')}`)) as Protocol
}

export interface Mutant {
  name: string
  changes: Change[]
  /** What its caller does otherwise. */
  calls?: (protocol: Protocol) => Protocol
  /** Where it is looked for, in this order. */
  worlds: () => World[]
}

const two = (name: LyingName, jumps: JumpName[], operations: Operation[] = SCRIPTS.simple, more: Parameters<typeof world>[3] = {}) => world(name, [operations, operations], jumps, { maxCrashes: 0, ...more })

// A takes the guard, and each of its next three calls comes half a minute after the one before.
const OVERSLEPT = { unreduced: true, beginning: `${'A'.repeat(12)}JAJAJ` }

const TAKE = 'guard = takeGuard(context, path + GUARD_SUFFIX, level + 1, watch)'

export const MUTANTS: Mutant[] = [
  {
    name: 'no guard',
    changes: [
      [TAKE, "guard = { path, level, at: context.system.clock(), id: '', unstamped: false }"],
      ['    dropGuard(context, guard)\n', '\n'],
    ],
    worlds: () => [two('dead', [])],
  },
  {
    name: 'no reading under the guard',
    changes: [['(again) => isSame(again, rumour))', '() => true)']],
    worlds: () => [two('dead', [])],
  },
  {
    name: 'judged before the guard is taken, and not again',
    changes: [["    if (!judgement.stale) return refuse(rumour, judgement)\n    const removal", "    void judgement\n    const removal"]],
    worlds: () => [two('out of sight, not yet expired', [])],
  },
  {
    name: 'judged once, after one reading, under the guard',
    changes: [
      ['  if (!first.stale) return refuse(rumour, first)\n', ''],
      ['const judgement = judge(rumour, fileClock)', 'rumour = read(context, path)\n    const judgement = judge(rumour, fileClock)'],
      ['(again) => isSame(again, rumour))', '() => true)'],
    ],
    worlds: () => [overdue()],
  },
  {
    name: 'late publish accepted',
    changes: [['if (elapsed(system, at) <= Math.min(LATE_MS, (stamp.ttlMs ?? Infinity) / 3)) {', '{']],
    worlds: () => [two('free', ['ten'], LONG)],
  },
  {
    name: 'late publish judged by the boot clock alone',
    changes: [['return Math.max(now.boot - since.boot, now.wall - since.wall)', 'return now.boot - since.boot']],
    worlds: () => [two('free', ['stepOn'])],
  },
  {
    name: 'renew looks at the clock first',
    changes: [
      ['const stamp = { ...before, ...times(now, before.ttlMs) }', 'const early = leaseLeft(system, before) > 0\n      const stamp = { ...before, ...times(now, before.ttlMs) }'],
      ['const inTime = leaseLeft(system, before) > 0 && written.mtimeMs - stoodSince < (before.ttlMs ?? Infinity)', 'const inTime = early'],
    ],
    worlds: () => [overdue()],
  },
  {
    name: 'renew does not look at the clock',
    changes: [['if (leadsHere && inTime) return', 'if (leadsHere) return']],
    worlds: () => [overdue()],
  },
  {
    name: 'renew believes a time by another machine’s clock',
    changes: [['if (before.renews) {', 'if (before.renews || !sameClock(system.machine(), before)) {']],
    worlds: () => [sharedAfar(undefined)],
  },
  {
    name: 'renew writes its older time over that of a co-owner',
    changes: [['if (before.renews) {', 'if (before.renews || sameClock(system.machine(), before)) {']],
    worlds: () => [sharing(['rest'], { processes: [] })],
  },
  {
    name: 'renew does not look where the path leads',
    changes: [['if (leadsHere && inTime) return', 'if (inTime) return']],
    worlds: () => [removing('renew')],
  },
  {
    name: 'an unconfirmed renewal is believed on retry',
    changes: [],
    // `renew` reads the times that it wrote itself before, and takes them for a lease.
    calls: (protocol) => ({ ...protocol, confirm: protocol.renew }),
    worlds: () => [overdue()],
  },
  {
    name: 'an unconfirmed renewal is believed on a look',
    changes: [],
    worlds: () => [overdue(['moment'], {}, true)],
  },
  {
    name: 'a time by another machine’s clock is believed on a look',
    changes: [['return sameClock(context.system.machine(), reading.stamp) && bootMs', 'return bootMs']],
    worlds: () => [lookingAfar()],
  },
  {
    name: 'a renewal by token reads without the guard',
    changes: [],
    calls: (protocol) => ({
      ...protocol,
      renewShared: (context, path, id) => {
        const stamp = protocol.look(context, path, id)
        return stamp && stamp !== 'lost' ? { done: true, stamp } : 'lost'
      },
    }),
    worlds: () => [sharing(['moment'], { renews: true }, NEARLY_OVER)],
  },
  {
    name: 'a renewal by token writes what it has only read',
    changes: [['if (stamp !== before) system.write', 'system.write']],
    worlds: () => [sharing(['moment'], { renews: true }, NEARLY_OVER)],
  },
  {
    name: 'a renewal by token believes a lease that is over, or half written',
    changes: [['return isInTime ? result', 'return bootMs ? result']],
    worlds: () => [{ ...sharing(['moment'], { renews: true }, NEARLY_OVER), torn: true }],
  },
  {
    name: 'commit without reading',
    changes: [["    if (!isMine(read(context, lock.path), lock.id)) return lost\n", '']],
    worlds: () => [committing('rest')],
  },
  {
    name: 'commit without a guard',
    changes: [
      ['  return underGuard<T | Refusal | Lost>(context, lock.path, 0, watch, lost, (guard) => {\n', "  const guard = { path: lock.path, level: 1, at: context.system.clock(), id: '', unstamped: false }\n"],
      ['act, [...guards, guard])\n  })', 'act, [...guards, guard])'],
    ],
    worlds: () => [committing('rest')],
  },
  {
    name: 'commit without looking at its guard’s age',
    changes: [['return old ? tooOld(old) : act()', 'return act()']],
    worlds: () => [apartHolder('commit')],
  },
  {
    name: 'renew by path, without reading',
    changes: [
      ["if (before?.id !== id) return 'lost'\n    //", "if (before === undefined) return 'lost'\n    //"],
      ['= { ...before, ...times(now, before.ttlMs) }', '= { ...before, id, ...times(now, before.ttlMs) }'],
    ],
    worlds: () => [overdue()],
  },
  {
    name: 'a guard expires by TTL though its holder lives',
    changes: [["if (life === 'alive') return { verdict: 'alive', stale: false, why: 'its process is at it', retryAfterMs: 1 }", "if (life === 'alive') return { verdict: 'alive', stale: age > 5_000, why: '', retryAfterMs: 1 }"]],
    worlds: () => [two('dead', ['ttl'])],
  },
  {
    name: 'a guard expires by TTL though its holder lives, and an old guard is trusted',
    changes: [
      ["if (life === 'alive') return { verdict: 'alive', stale: false, why: 'its process is at it', retryAfterMs: 1 }", "if (life === 'alive') return { verdict: 'alive', stale: age > 60_000, why: '', retryAfterMs: 1 }"],
      ['if (isOld(context.system, guard)) return tooOld(guard)', ''],
    ],
    worlds: () => [two('dead', ['minute'])],
  },
  {
    name: 'an old guard is still trusted',
    changes: [['if (isOld(context.system, guard)) return tooOld(guard)', '']],
    worlds: () => [apart('detached', OVERSLEPT)],
  },
  {
    name: 'unlinking a guard that is not ours',
    changes: [['if (!isOld(context.system, guard) && attempt', 'if (attempt']],
    worlds: () => [apart('detached', { ...OVERSLEPT, scripts: [{ operations: [{ do: 'acquire', ttlMs: TTL, tries: 2 }] }, { operations: TAKING }] })],
  },
  {
    name: 'release without reading',
    changes: [["(reading) => isMine(reading, id), watch)\n  if (removal === 'changed') return { done", "() => true, watch)\n  if (removal === 'changed') return { done"]],
    worlds: () => [two('free', ['ttl'], FINAL), holderAndTaker('rest')],
  },
  {
    name: 'own belief without granularity',
    changes: [[' - system.machine().granularityMs - system.clock().boot', ' - system.clock().boot']],
    worlds: () => [two('free', ['nearlyTtl'], FINAL, { lags: [50, 0, 0] }), two('free', ['nearlyTtl'], FINAL, { lags: [0, 50, 0] })],
  },
  {
    name: 'a silent holder is taken from at once',
    changes: [['if (watched >= SILENT_MS) return', 'return']],
    worlds: () => [two('silent', ['late'])],
  },
  {
    name: 'a silent holder is taken from though nobody has watched it all the time',
    changes: [['seen?.what === what && now - seen.last <= WATCH_GAP_MS ?', 'seen?.what === what ?']],
    worlds: () => [two('silent', ['ttl'], [{ do: 'acquire', ttlMs: TTL, tries: 2 }])],
  },
  {
    name: 'a lease that is not renewed is waited for when it is over',
    changes: [["life === 'unknown' || !stamp.renews", "life === 'unknown'"]],
    worlds: () => [two('expired', [])],
  },
  {
    name: 'a lease is over on another machine as soon as its TTL is',
    changes: [['const SLACK_MS = 60_000', 'const SLACK_MS = 0']],
    worlds: () => [two('out of sight, not yet expired', ['fsOn'])],
  },
  {
    name: 'a lease is over in another container as soon as its TTL is',
    changes: [['const SLACK_SAME_BOOT_MS = 2_000', 'const SLACK_SAME_BOOT_MS = 0']],
    worlds: () => [nudged()],
  },
  {
    name: 'what is foreign is taken',
    changes: [["return { verdict: 'foreign', stale: false,", "return { verdict: 'foreign', stale: true,"]],
    worlds: () => [two('foreign', [])],
  },
  {
    name: 'adopted from a living process',
    changes: [["stamp?.id === id && liveness(context.system, stamp) !== 'alive'", 'stamp?.id === id']],
    worlds: () => [adoptingAlive(undefined)],
  },
  {
    name: 'sweep does not judge',
    changes: [['(reading, fileClock) => judge(context, reading, clearing, fileClock), clearing)', '(reading, fileClock) => ({ ...judge(context, reading, clearing, fileClock), stale: true }), clearing)']],
    worlds: () => [sweeping(holderAndTaker('rest'))],
  },
  {
    name: 'an unstamped file is taken at once',
    changes: [['const stale = watched >= YOUNG_MS || age >= OLD_MS', 'const stale = true']],
    worlds: () => [two('free', [])],
  },
  {
    name: 'confirm without looking at its guard’s age',
    changes: [['      if (isOld(system, guard)) return tooOld(guard)\n      // Without', '      // Without']],
    worlds: () => [apartHolder('renewShared')],
  },
  {
    name: 'confirm without looking where the path leads',
    changes: [["      if (system.lstat(path)?.identity !== system.stat(fd).identity) return 'lost'\n", '']],
    worlds: () => [removing('renewShared')],
  },
  {
    name: 'the late do not clean up',
    changes: [["  disown(context, stamp.id!, path, level)\n  settle(context, stamp.id!, newWatch())\n  return { kind: 'late' }", "  return { kind: 'late' }"]],
    worlds: () => [staying('free', ['late'])],
  },
  {
    name: 'a guard that got its stamp late needs no other over it',
    changes: [['  disown(context, stamp.id!, path, level)\n  settle(', '  disown(context, stamp.id!, path, level, at)\n  settle(']],
    worlds: () => [watchedGuard()],
  },
  {
    name: 'a guard that grew old is forgotten',
    changes: [['  disown(context, id, path, level, at)\n}', '  void [id, level, at]\n}']],
    worlds: () => [staying('free', ['half'])],
  },
  {
    name: 'nobody cleans up',
    changes: [['      settle(context, id, watch)\n    } catch (error) {', '      void [id, watch]\n    } catch (error) {']],
    worlds: () => [staying('free', [])],
  },
]
