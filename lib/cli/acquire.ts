import { type AcquireOptions, describeHolder, type Lock, quoted } from '../core/index.js'
import { type Command, duration, type Io, text, usageError, type Values } from './command.js'
import { acquireWatching } from './watching.js'

export const command: Command = {
  usage: 'acquire RESOURCE [options]',
  about:
    'Takes the lock of a file (memory/queue.md), of a part (memory/queue.md::head) or of a free name (name:deploy). It outlives this ' +
    'command, until it is released by the printed token or its TTL runs out. Refuses at once when somebody else has it; only a holder ' +
    'that hangs beyond its TTL is watched for 5 s, and then followed.',
  operands: [1, 1],
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
      const lock = await acquireWatching(resource!, optionsFrom(values))
      await printOrRelease(lock, io)
      const { file, stamp, recovered } = lock
      const until = stamp.expiresAt ? `until ${stamp.expiresAt}` : 'until it is released'
      if (recovered) io.say(`recovered from ${describeHolder(recovered)}, which did not release it; its work may be half done`)
      if (!io.json) io.say(`holding ${file} ${until}; then: lockpact release ${nameOf(resource!, values)} --token "$TOKEN"`)
      return 0
    } catch (error) {
      return io.fail(error, { held: false })
    }
  },
}

// A lock whose token nobody got to know would only be in the way.
async function printOrRelease(lock: Lock, io: Io): Promise<void> {
  const { file, lockFile, token, id, stamp } = lock
  const { owner = null, expiresAt = null } = stamp
  try {
    io.print({ held: true, file, lockFile, token, id, owner, expiresAt, recovered: lock.recovered ?? null }, token)
  } catch (error) {
    await lock.release()
    throw error
  }
}

function nameOf(resource: string, values: Values): string {
  const lockFile = text(values, 'lock-file')
  return quoted(resource) + (lockFile === undefined ? '' : ` --lock-file ${quoted(lockFile)}`)
}

function optionsFrom(values: Values): AcquireOptions {
  const [ttl, wait, pid] = [duration(values, 'ttl', 'none'), duration(values, 'wait', 'forever'), text(values, 'pid')]
  const [owner, reason, token, lockFile] = ['owner', 'reason', 'token', 'lock-file'].map((name) => text(values, name))
  if (pid !== undefined && !/^[1-9]\d*$/.test(pid)) throw usageError('--pid takes the number of a living process')
  return {
    detached: true,
    ...(ttl && { ttl: ttl.ms }),
    ...(wait && { wait: wait.ms }),
    ...(pid !== undefined && { pid: Number(pid) }),
    ...(owner !== undefined && { owner }),
    ...(reason !== undefined && { reason }),
    ...(token !== undefined && { token }),
    ...(lockFile !== undefined && { lockFile }),
  }
}
