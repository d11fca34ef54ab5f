/* The door of this room: what the layers above may use; the public names among these are in `lib/jobs.ts`. */
export { type Changes, FIELDS, type Job, type JobFields, type JobPatch, type NewJob, type Run, type Running } from './job.js'
export { beginDue, type Begun, beginRun, createJob, deleteJob, extendRun, jobHistory, type JobOptions, listJobs, type NotBegun, overdueJobs, pauseJob, record, recordRun, resumeJob, type Runner, showJob, taskOf, type UpdatedJob, updateJob } from './roster.js'
export { type Election, type ElectionOptions, electLeader } from './leader.js'
export { nextRun, type Schedule } from './schedule.js'
