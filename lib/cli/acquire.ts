import { type AcquireOptions, describeHolder, type Lock, quoted } from '../core/index.js'
import { logLockEvent, ownLock } from '../work/index.js'
import { type Command, duration, type Io, pidIn, text, type Values } from './command.js'
import { keep, printOr, withToken, workspaceIfAny } from './session.js'
import { acquireWatching } from './watching.js'

export const command: Command = {
  usage: 'acquire RESOURCE [options]',
  about:
    'Takes the lock of a file (memory/queue.md), of a part (memory/queue.md::head) or of a free name (name:deploy). It outlives this ' +
    'command, until it is released by the printed token or its TTL runs out. Refuses at once when somebody else has it; only a holder ' +
    'that hangs beyond its TTL is watched for 5 s, and then followed. A session that has it already gets its inner lock.',
  operands: [1, 1],
  input: 'resource',
  options: {
    ttl: { value: 'TIME', about: "how long it is good for, e.g. 90s, 10m, 1h (default 10m; 'none': until released)" },
    wait: { value: 'TIME', about: "how long to wait for it (default: refuse at once; 'forever')" },
    owner: { value: 'LABEL', about: 'who, for people' },
    reason: { value: 'TEXT', about: 'why, for people' },
    pid: { value: 'N', about: 'bind it to a living process: free as soon as that is dead' },
    token: { value: 'T', about: 'of a lock that was ours: taken over when its process is dead or out of sight' },
    'lock-file': { value: 'PATH', about: 'another lock file than RESOURCE.lock' },
  },
  examples: [
    'TOKEN=$(lockpact acquire memory/queue.md --owner hourly --ttl 10m)',
    'lockpact acquire memory/queue.md --wait 30s --json',
    'lockpact acquire name:deploy --pid "$AGENT_PID"',
  ],

  async run([resource], values, io) {
    try {
      const root = workspaceIfAny()
      const options = optionsFrom(values)
      const own = options.token === undefined ? ownLock(root, resource!, options) : undefined
      const isInner = own !== undefined && !own.lockFile.endsWith('.inner')
      if (isInner) options.lockFile = `${own.lockFile}.inner`
      const lock = await acquireWatching(resource!, { ...options, onEvent: (event) => logLockEvent(root, event) })
      await keepAndPrint(root, lock, io)
      if (lock.recovered) io.say(`recovered from ${describeHolder(lock.recovered)}, which did not release it; its work may be half done`)
      if (isInner) io.say('this session holds it already; this is its inner lock: release both')
      const { file, stamp } = lock
      const until = stamp.expiresAt ? `until ${stamp.expiresAt}` : 'until it is released'
      const { lockFile } = options
      const words = quoted(resource!) + (lockFile === undefined ? '' : ` --lock-file ${quoted(lockFile)}`)
      if (!io.json) io.say(`holding ${file} ${until}; then: lockpact release ${words}${withToken(root)}`)
      return 0
    } catch (error) {
      return io.fail(error, { held: false })
    }
  },
}

async function keepAndPrint(root: string | undefined, lock: Lock, io: Io): Promise<void> {
  const { file, lockFile, token, id, stamp } = lock
  const { owner = null, expiresAt = null } = stamp
  await keep(root, { kind: 'lock', name: file, token, lockFile, until: expiresAt }, io)
  await printOr(() => lock.release(), root, token, () =>
    io.print({ held: true, file, lockFile, token, id, owner, expiresAt, recovered: lock.recovered ?? null }, token),
  )
}

function optionsFrom(values: Values): AcquireOptions {
  const [ttl, wait, pid] = [duration(values, 'ttl', 'none'), duration(values, 'wait', 'forever'), pidIn(values)]
  const [owner, reason, token, lockFile] = ['owner', 'reason', 'token', 'lock-file'].map((name) => text(values, name))
  return {
    detached: true,
    ...(ttl !== undefined && { ttl }),
    ...(wait !== undefined && { wait }),
    ...(pid !== undefined && { pid }),
    ...(owner !== undefined && { owner }),
    ...(reason !== undefined && { reason }),
    ...(token !== undefined && { token }),
    ...(lockFile !== undefined && { lockFile }),
  }
}
