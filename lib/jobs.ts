/**
 * One scheduler among many sessions ({@link electLeader}), and jobs that are updated in place: {@link updateJob} keeps the id and the
 * history, and what a run records at its end never undoes an edit, a pause or a delete made meanwhile. They are kept in `.lockpact/jobs.json`, which is never begun anew: a damaged one is an error that
 * says where it breaks.
 *
 * @module
 */
export { createJob, deleteJob, listJobs, overdueJobs, pauseJob, recordRun, resumeJob, showJob, updateJob } from './jobs/index.js'
export type { Changes, Job, JobFields, JobOptions, JobPatch, NewJob, Run, Running, UpdatedJob } from './jobs/index.js'
export { type Election, type ElectionOptions, electLeader } from './jobs/index.js'
export { nextRun, type Schedule } from './jobs/index.js'
