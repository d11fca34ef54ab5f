import { constants } from 'node:os'
import { describeHolder, inspectLock, isLockError, type Lock, locate } from '../core/index.js'
import { electLeader } from '../jobs/index.js'
import { forget, logLockEvent, recall, remember } from '../work/index.js'
import { type Command, duration, EXIT, text, usageError } from './command.js'
import { workspaceIfAny } from './session.js'
import { supervise } from './supervise.js'

export const command: Command = {
  usage: 'lead FILE [options] -- COMMAND…',
  about:
    'One of many: of all who lead the same FILE, one runs its command; the others wait, say once who leads, and follow when it ends or dies. ' +
    'When the lease is lost, the process group of the command is ended, and this one waits again. When the command ends, so does this, ' +
    'and hands over at once. A resumed session (LOCKPACT_SESSION) gets its lease back when its old process is dead.',
  operands: [1, 1],
  takesCommand: true,
  options: {
    ttl: { value: 'TIME', about: 'how long the lease is good for without renewal (default 15s); it is renewed' },
    owner: { value: 'LABEL', about: 'who, for people (default: the session, or the command)' },
    'lock-file': { value: 'PATH', about: 'another lock file than FILE.lock' },
  },
  examples: ['lockpact lead memory/scheduler -- lockpact jobs due --run --every 30s', 'lockpact lead name:scheduler --owner session-1 -- node scheduler.js'],
  notes: ["that of COMMAND when it ends (128+n after a signal), 126/127 when it cannot be", 'started'],

  async run([file], values, io, words) {
    if (words.length === 0) throw usageError(`a command is missing: lockpact ${command.usage}`)
    const [root, session] = [workspaceIfAny(), process.env['LOCKPACT_SESSION']]
    const owner = text(values, 'owner') ?? session?.slice(0, 60) ?? words[0]!.replace(/^.*[/\\]/, '').slice(0, 60)
    const [ttl, lockFile] = [duration(values, 'ttl'), text(values, 'lock-file')]
    const place = locate(file!, lockFile)
    const known = recall(root).findLast(({ kind, lockFile: path }) => kind === 'lock' && path === place.lockFile)

    const lead = async (lock: Lock, lost: AbortSignal): Promise<number | undefined> => {
      io.say(`leading ${place.file}${lock.recovered ? `, after ${describeHolder(lock.recovered)}, which did not hand over` : ''}`)
      await remember(root, { kind: 'lock', name: place.file, token: lock.token, until: null, lockFile: lock.lockFile }).catch(() => {})
      const bind = async (pids: number[]) => {
        for (const pid of pids) await lock.bind(pid)
      }
      try {
        const ending = await supervise({ command: words, env: process.env, timeoutMs: Infinity, lost, bind, confirm: () => lock.renew() })
        if (ending.how === 'lost' || ending.how === 'timed out') return undefined
        return ending.how === 'exited' ? ending.code : 128 + constants.signals[ending.signal]
      } catch (error) {
        if (!isLockError(error) || error.code !== 'ECOMPROMISED') throw error
        return undefined
      } finally {
        await forget(root, lock.token).catch(() => {})
      }
    }

    try {
      const there = inspectLock(file!, lockFile === undefined ? {} : { lockFile })
      if (there.verdict === 'foreign') io.warn(`${there.lockFile} is not a lock of ours (${there.why}): nobody leads until a person removes it`)
      let finish: (status: number) => void
      const finished = new Promise<number>((resolve) => (finish = resolve))
      const election = await electLeader(file!, {
        owner,
        ttl,
        lockFile,
        token: known?.token,
        onElected: async (lock, signal) => {
          const status = await lead(lock, signal)
          if (status !== undefined) finish(status)
        },
        onLost: (reason) => io.say(`${reason.message}; the command is being ended`),
        onPassive: (leader) => io.say(`${place.file} is led by ${describeHolder(leader)}; waiting`),
        onError: (error) => io.say(`${error.message}; trying again`),
        onEvent: (event) => logLockEvent(root, event),
      })
      const status = await Promise.race([finished, election.ended.then(() => EXIT.software)])
      await election.resign()
      return status
    } catch (error) {
      return io.fail(error, { leading: false })
    }
  },
}
