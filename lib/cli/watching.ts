import { acquireLock, type AcquireOptions, isLockError, type Lock, type LockEvent } from '../core/index.js'

/** A hung holder that should renew is watched for five seconds, so that it does not block a crontab for ever. */
const WATCHING = '6s'

/** Takes a lock as a command does: refused at once, unless its holder may only be hanging. */
export async function acquireWatching(resource: string, options: AcquireOptions): Promise<Lock> {
  const { onEvent } = options
  let refused: LockEvent | undefined
  try {
    return await acquireLock(resource, { ...options, onEvent: (event) => (event.type === 'refused' ? (refused = event) : onEvent?.(event)) })
  } catch (error) {
    if (isLockError(error) && error.code === 'ELOCKED' && error.verdict === 'silent' && options.wait === undefined)
      return acquireLock(resource, { ...options, wait: WATCHING })
    if (refused) onEvent?.(refused)
    throw error
  }
}
