import type { HoldOptions } from '../files/index.js'
import { logLockEvent, ownLock } from '../work/index.js'
import { duration, type Option, text, type Values } from './command.js'

/** What every change of a file takes. */
export const holdOptions: Record<string, Option> = {
  wait: { value: 'TIME', about: "how long to wait for the file's lock (default 10s; 'forever')" },
  owner: { value: 'LABEL', about: 'who, for people' },
}

/** The same for the library: a lock that this session holds is gone on under, and what happens to the lock is logged. */
export function holdingOf(root: string | undefined, file: string, values: Values): HoldOptions {
  return {
    wait: duration(values, 'wait', 'forever'),
    owner: text(values, 'owner'),
    lock: ownLock(root, file),
    onEvent: (event) => logLockEvent(root, event),
  }
}
