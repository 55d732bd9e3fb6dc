/** The programs of a benchmark: found, started, timed, and all gone when this process is. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { accessSync, constants, statSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { delimiter, join } from 'node:path'
import { text } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'

const READY_MS_MAX = 10_000
const STOP_MS_MAX = 15_000
const COMPLAINTS_CHARS_MAX = 10_000
/** Daemons live where a user's PATH does not look. */
const DAEMON_FOLDERS = ['/usr/local/sbin', '/usr/sbin', '/opt/homebrew/bin']

/** Each leads a process group of its own, so that its children end with it and ^C reaches only us. */
const running = new Set<Program>()

/** A program that was started. */
export interface Program {
  readonly child: ChildProcess
  readonly command: string
  /** The end of what it has said on stderr. */
  complaints: string
}

/** Where an executable is, or `undefined`. */
export function find(command: string): string | undefined {
  const folders = [...(process.env.PATH ?? '').split(delimiter), ...DAEMON_FOLDERS]
  return folders.map((folder) => join(folder, command)).find(isExecutable)
}

/** Where an executable is. Throws with the remedy if it is not installed. */
export function installed(command: string): string {
  const path = find(command)
  if (path) return path
  throw new Error(`${command} is not installed; install it to compare with it`)
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return statSync(path).isFile()
  } catch {
    return false
  }
}

/** Runs a program to its end, and throws if that is not a good one. */
export function run(command: string, ...args: string[]): Promise<{ stdout: string; stderr: string }> {
  return ended(launch(command, ...args))
}

/** Waits for a program's end, and throws if that is not a good one. */
export async function ended(program: Program): Promise<{ stdout: string; stderr: string }> {
  const { child } = program
  const stdout = child.stdout ? text(child.stdout) : ''
  const [code] = await once(child, 'close')
  if (code !== 0) throw new Error(`${failure(program)}\n${await stdout}`.trim())
  return { stdout: await stdout, stderr: program.complaints }
}

/** Does something and returns the seconds it took. */
export async function timed(work: () => Promise<unknown>): Promise<number> {
  const startMs = performance.now()
  await work()
  return (performance.now() - startMs) / 1000
}

/** Starts a program that stays: a server. */
export function launch(command: string, ...args: string[]): Program {
  const child = spawn(command, args, { detached: true, stdio: ['ignore', 'pipe', 'pipe'] })
  const program = { child, command: [command, ...args].join(' '), complaints: '' }
  child.stderr.setEncoding('utf8').on('data', (data) => {
    program.complaints = (program.complaints + data).slice(-COMPLAINTS_CHARS_MAX)
  })
  if (child.pid !== undefined) running.add(program)
  child.once('exit', () => running.delete(program))
  return program
}

/** Asks a server to end, and makes it. */
export async function stop(program: Program): Promise<void> {
  const { child } = program
  if (hasEnded(child)) return
  const exited = once(child, 'exit')
  signalGroup(child, 'SIGTERM')
  const patience = setTimeout(signalGroup, STOP_MS_MAX, child, 'SIGKILL')
  await exited
  clearTimeout(patience)
}

/** Ends at once whatever still runs. */
export function killAll(): void {
  for (const { child } of running) signalGroup(child, 'SIGKILL')
}

function signalGroup({ pid }: ChildProcess, signal: NodeJS.Signals): void {
  if (pid === undefined) return
  try {
    process.kill(-pid, signal)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
  }
}

/** What copies are called: one for each client. */
export function copyNames(clients: number): string[] {
  return Array.from({ length: clients }, (_, number) => `copy.${number}`)
}

/** A port of the loopback interface that was free a moment ago. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  server.close()
  await once(server, 'close')
  return port
}

/** Waits until the server accepts connections. */
export function accepting(program: Program, port: number): Promise<void> {
  return ready(program, async () => {
    const socket = connect(port, '127.0.0.1')
    const isOpen = await once(socket, 'connect').then(
      () => true,
      () => false,
    )
    socket.destroy()
    return isOpen
  })
}

/** Waits until `isReady`; throws if the program ends before, or takes too long. */
export async function ready(program: Program, isReady: () => boolean | Promise<boolean>): Promise<void> {
  for (const startMs = performance.now(); performance.now() - startMs < READY_MS_MAX; await sleep(20)) {
    if (hasEnded(program.child)) throw new Error(failure(program))
    if (await isReady()) return
  }
  throw new Error(`${program.command} is not ready after ${READY_MS_MAX / 1000} s`)
}

function hasEnded({ exitCode, signalCode }: ChildProcess): boolean {
  return exitCode !== null || signalCode !== null
}

function failure({ command, child, complaints }: Program): string {
  return `${command} ended with ${child.signalCode ?? `code ${child.exitCode}`}: ${complaints.trim()}`
}
