import { type ChildProcess, spawn } from 'node:child_process'
import { fs } from '../core/index.js'

/*
 * A command as the child of a wrapper that holds something for it.
 *
 *     wrapper --- pipe ---> child      waits at the starting line until everything is bound to it, then becomes the command (exec)
 *        \------- pipe ---> watchdog   when the wrapper vanishes without a word, ends the child's process group; stops it when the
 *                                      wrapper is stopped
 *
 * What is held is bound to all three, so it is free only when the wrapper is gone, the child is gone, and the watchdog has seen to it
 * that the group is gone. A process that leaves the group (setsid) cannot be seen.
 */

export interface Order {
  command: string[]
  env: NodeJS.ProcessEnv
  /** Infinity: none. */
  timeoutMs: number
  /** Aborted when something that is held is lost. */
  lost: AbortSignal
  /** Called before the command starts, with the processes to bind to. When it rejects, the command does not start. */
  bind(pids: number[]): Promise<void>
  /** Called when the wrapper was stopped and goes on: rejects when something was lost meanwhile. */
  confirm(): Promise<void>
  /** A file that is its stdin. Default: the wrapper's. */
  input?: string | undefined
}

export type Ending = { how: 'exited'; code: number } | { how: 'signalled'; signal: NodeJS.Signals } | { how: 'timed out' } | { how: 'lost' }

/** How long a group that was told to end may take, before it is killed. */
const GRACE_MS = 5_000
const POLL_MS = 20

// The pid stays the same through exec, and so does the start time. 125: the wrapper has gone before the start.
const STARTING_LINE = `read -r go <&3 || exit 125; exec 3<&-
command -v "$1" >/dev/null 2>&1 || [ -e "$1" ] || { echo "lockpact: there is no command $1" >&2; exit 127; }
exec "$@"`
// A wrapper that is stopped renews nothing, so its group must not go on alone; when it goes on, it confirms that it still has everything,
// and lets the group go on. A stop that came too late, after that, is undone.
// The group may be stopped, then it has to go on in order to end.
// A zombie that nobody waits for is dead, but kill(1) finds it: 7 when there are no others.
const WATCHDOG = `dead() {
  [ -r /proc/self/stat ] || exit 1
  of=$1
  for stat in /proc/[0-9]*/stat; do
    read -r line <"$stat" || continue
    set -- \${line##*) }
    [ "$3" = "$of" ] && [ "$1" != Z ] && exit 1
  done
  exit 7
}
stopped() {
  if [ -r "/proc/$1/status" ]; then while read -r key state rest; do [ "$key" = State: ] && break; done <"/proc/$1/status"
  else state=$(ps -o state= -p "$1"); fi
  case $state in T*) return 0;; *) return 1;; esac
}
while sleep 1 && kill -s 0 "$2"; do
  stopped "$2" || continue
  kill -s STOP -- "-$1"
  stopped "$2" || kill -s CONT -- "-$1"
done &
read -r bye && { kill "$!"; exit; }
kill "$!"
kill -s TERM -- "-$1"; kill -s CONT -- "-$1"
for i in 1 2 3 4 5; do for j in 1 2 3 4 5 6 7 8 9 10; do kill -s 0 -- "-$1" || exit; (dead "$1"); [ $? = 7 ] && exit; sleep ${GRACE_MS / 50_000}; done; done
kill -s KILL -- "-$1"`

/** What is passed on to the command. A child that ignores the first three for too long is killed. */
const ENDING: NodeJS.Signals[] = ['SIGTERM', 'SIGHUP', 'SIGQUIT']
const FORWARDED: NodeJS.Signals[] = [...ENDING, 'SIGINT', 'SIGUSR1', 'SIGUSR2', 'SIGWINCH']

/** Runs the command to its end, and to that of its process group. Rejects when it could not be started. */
export async function supervise(order: Order): Promise<Ending> {
  // Before there is a group: a signal between would be lost.
  let group: Group | undefined
  const stop = forwardSignals(() => group!, order)
  try {
    group = new Group(order)
    return await group.run()
  } finally {
    stop()
  }
}

class Group {
  readonly #order: Order
  readonly #child: ChildProcess
  readonly #watchdog: ChildProcess
  readonly #exited: Promise<Ending>
  /** Why it was told to end, when that was not the command's own doing. */
  #reason: 'timed out' | 'lost' | undefined
  #killer: NodeJS.Timeout | undefined

  constructor(order: Order) {
    this.#order = order
    const { command, env, input } = order
    const stdin = input === undefined ? undefined : fs.openSync(input, 'r')
    // Groups of their own: a terminal's Ctrl-C comes to us, and we pass it on.
    this.#child = spawn('/bin/sh', ['-c', STARTING_LINE, 'lockpact', ...command], { stdio: [stdin ?? 'inherit', 'inherit', 'inherit', 'pipe'], detached: true, env })
    if (stdin !== undefined) fs.closeSync(stdin)
    this.#exited = new Promise((resolve, reject) => {
      this.#child.once('error', reject)
      this.#child.once('exit', (code, signal) => resolve(signal ? { how: 'signalled', signal } : { how: 'exited', code: code! }))
    })
    this.#exited.catch(() => {})
    this.#watchdog = spawn('/bin/sh', ['-c', WATCHDOG, 'lockpact', String(this.#child.pid), String(process.pid)], { stdio: ['pipe', 'ignore', 'ignore'], detached: true })
    // A pipe whose reader is gone; what that means, the exit says.
    for (const pipe of [this.#watchdog.stdin, this.#child.stdio[3]]) pipe?.on('error', () => {})
    this.#watchdog.on('error', () => {})
  }

  async run(): Promise<Ending> {
    const { bind, lost, timeoutMs } = this.#order
    const line = this.#child.stdio[3] as NodeJS.WritableStream
    const onLost = () => this.end('lost')
    try {
      if (this.#child.pid === undefined || this.#watchdog.pid === undefined) await this.#exited
      await bind([this.#child.pid!, this.#watchdog.pid!])
      if (lost.aborted) return { how: 'lost' }
      lost.addEventListener('abort', onLost)
      line.end('go\n')
      // Longer than setTimeout can count is no limit.
      const timer = timeoutMs <= 0x7fff_ffff ? setTimeout(() => this.end('timed out'), timeoutMs) : undefined
      const ending = await this.#exited
      clearTimeout(timer)
      await this.#clearUp()
      return this.#reason ? { how: this.#reason } : ending
    } finally {
      lost.removeEventListener('abort', onLost)
      clearTimeout(this.#killer)
      line.end()
      this.#watchdog.stdin!.end('bye\n')
      this.#watchdog.unref()
    }
  }

  /** Tells the whole group to end, and kills it when it does not. */
  end(reason: 'timed out' | 'lost' | undefined, signal: NodeJS.Signals = 'SIGTERM'): void {
    this.#reason ??= reason
    this.signal(signal)
    this.signal('SIGCONT')
    this.#killer ??= setTimeout(() => this.signal('SIGKILL'), GRACE_MS)
  }

  /** False when there is nobody any more. */
  signal(signal: NodeJS.Signals | 0): boolean {
    try {
      return process.kill(-this.#child.pid!, signal)
    } catch (error) {
      return (error as NodeJS.ErrnoException).code === 'EPERM'
    }
  }

  // What the command has started and left behind would go on working beside whoever comes next.
  async #clearUp(): Promise<void> {
    if (!this.signal(0)) return
    this.end(undefined)
    // Zombies that nobody waits for count as well, and never go.
    for (const until = performance.now() + GRACE_MS + 1_000; this.signal(0) && performance.now() < until; ) await new Promise((resolve) => setTimeout(resolve, POLL_MS))
  }
}

function forwardSignals(group: () => Group, { confirm }: Order): () => void {
  const listeners = new Map<NodeJS.Signals, () => void>()
  for (const signal of FORWARDED) listeners.set(signal, () => (ENDING.includes(signal) ? group().end(undefined, signal) : group().signal(signal)))
  // Its group is nobody's foreground job, where SIGTSTP is ignored.
  listeners.set('SIGTSTP', () => {
    group().signal('SIGSTOP')
    process.kill(process.pid, 'SIGSTOP')
  })
  listeners.set('SIGCONT', () => {
    confirm().then(
      () => group().signal('SIGCONT'),
      () => group().end('lost', 'SIGKILL'),
    )
  })
  for (const [signal, listener] of listeners) process.on(signal, listener)
  return () => {
    for (const [signal, listener] of listeners) process.off(signal, listener)
  }
}
