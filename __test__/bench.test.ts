import { spawn } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { folder, namesBelow, outcome, REPOSITORY, startXferd, until, xferd } from './fixture.js'

const TINY = ['bench', '--size', '2MB', '--clients', '1,2', '--rounds', '2', '--threads', '0']

interface Row {
  name: string
  kind: string
  mb_per_s: number
  of_ceiling?: number
  seconds: { median: number; average: number; min: number; max: number }
  server?: Record<string, number>
  client?: Record<string, number>
  rounds: unknown[]
}

test('each load is measured in every round, beside the ceiling, and nothing is left', async (t) => {
  const here = folder(t)
  const dir = folder(t)
  const [svg, html] = [join(here, 'chart.svg'), join(here, 'report.html')]
  const { code, stdout, stderr } = await xferd(...TINY, '--json', '--dir', dir, '--svg', svg, '--html', html)
  t.is(code, 0, stderr)
  const { machine, loads } = JSON.parse(stdout)
  t.true(machine.cores > 0 && machine.memory_bytes > 0 && machine.file_system.length > 0)
  t.deepEqual(
    loads.map(({ clients, bytes, direction }: Record<string, unknown>) => [clients, bytes, direction]),
    [
      [1, 2_000_000, 'push'],
      [2, 4_000_000, 'push'],
    ],
  )
  for (const { rows, ceiling } of loads as { rows: Row[]; ceiling?: string }[]) {
    const row = rows.find(({ kind }) => kind === 'xferd') as Row
    t.is(row.rounds.length, 2)
    t.true(row.seconds.min <= row.seconds.median && row.seconds.median <= row.seconds.max)
    if (process.platform !== 'linux') continue
    const best = rows.find(({ name }) => name === ceiling) as Row
    t.is(best.of_ceiling, 1)
    t.is(row.of_ceiling, row.mb_per_s / best.mb_per_s)
    for (const side of [row.server, row.client]) {
      t.deepEqual(Object.keys(side ?? {}), ['cpu_percent', 'peak_bytes', 'grown_bytes'])
    }
  }
  t.deepEqual(namesBelow(dir), [])

  const chart = readFileSync(svg, 'utf8')
  t.true(isWellFormed(chart))
  t.regex(chart, /^<svg xmlns=.*<title>Throughput/s)
  const page = readFileSync(html, 'utf8')
  t.regex(page, /^<!doctype html>/)
  const body = page.slice(page.indexOf('<body>'), page.indexOf('</html>'))
  t.true(isWellFormed(body))
  t.is(body.match(/<svg/g)?.length, 3, 'one chart of all, and the rounds of each load')
  t.notRegex(page, /https?:|src=|@import|url\(/, 'nothing is asked for')
})

test('without --json there is a table for each load', async (t) => {
  const { code, stdout, stderr } = await xferd(...TINY, '--pull', '--digest', 'none', '--dir', folder(t))
  t.is(code, 0, stderr)
  t.is(stdout.match(/^### pull, /gm)?.length, 2)
  t.regex(stdout, /^\| xferd, 0 workers +\| +2 \| +4\.0 \|/m)
  t.regex(stdout, /^Medians of 2 rounds, digest none\. /m)
  t.regex(stderr, /round 2 of 2: xferd, 0 workers, /)
})

test('a tree is pushed and pulled', async (t) => {
  const { code, stdout, stderr } = await xferd(
    ...['bench', '--tree', '--rounds', '1', '--threads', '0', '--json', '--dir', inMemory(t)],
  )
  t.is(code, 0, stderr)
  const { loads } = JSON.parse(stdout)
  t.deepEqual(
    loads.map(({ direction, files }: Record<string, unknown>) => [direction, files]),
    [
      ['push', 10_000],
      ['pull', 10_000],
    ],
  )
})

test('a program that is not installed is left out, and what to do is said', async (t) => {
  // Only what the measuring itself calls.
  const path = folder(t)
  symlinkSync('/bin/sync', join(path, 'sync'))
  const args = [...TINY, '--compare', 'rsync,nginx,scp', '--json', '--dir', folder(t)]
  const child = spawn(process.execPath, [join(REPOSITORY, 'bin/xferd.js'), ...args], {
    env: { ...process.env, PATH: path },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const { code, stdout, stderr } = await outcome(child)
  t.is(code, 0, stderr)
  const { left_out, loads } = JSON.parse(stdout)
  const reasons = left_out.map(({ what, reason }: Record<string, string>) => `${what}: ${reason}`).join('\n')
  for (const program of ['rsync', 'curl', 'scp']) {
    t.regex(reasons, new RegExp(`${program} is not installed; install it`))
  }
  t.true(loads[0].rows.some(({ name }: Row) => name === 'xferd, whole process'))
})

test('what makes no sense is refused with 2 before anything is started', async (t) => {
  for (const args of [
    ['--clients', '0'],
    ['--clients', '1001'],
    ['--clients', '1,1'],
    ['--clients', ''],
    ['--clients', Array.from({ length: 17 }, (_, index) => index + 1).join()],
    ['--size', '0B'],
    ['--size', '1000001MB'],
    ['--size', 'big'],
    ['--rounds', '0'],
    ['--rounds', '1001'],
    ['--threads', '257'],
    ['--threads', '-1'],
    ['--compare', 'ftp'],
    ['--tree', '--pull'],
    ['--write-path', 'auto,fast'],
    ['--pull', '--write-path', 'direct'],
    ['--svg', '/nowhere/at/all.svg'],
  ]) {
    const dir = folder(t)
    const { code, stdout } = await xferd('bench', '--dir', dir, '--json', ...args)
    t.is(code, 2, args.join(' '))
    t.is(JSON.parse(stdout).error.code, 'INVALID_ARGUMENT')
    t.deepEqual(namesBelow(dir), [])
  }
})

test('a load within the limits for which there is no room is refused before it is written', async (t) => {
  const clients = ['1000', ...Array.from({ length: 15 }, (_, index) => index + 1)].join()
  const limits = ['--clients', clients, '--size', '1TB', '--rounds', '1000', '--threads', '256']
  const dir = folder(t)
  const { code, stdout } = await xferd('bench', '--dir', dir, '--json', ...limits)
  t.is(code, 1)
  const { error } = JSON.parse(stdout)
  t.is(error.code, 'DISK_FULL')
  t.regex(error.message, /this needs 1\.0 PB: .*--dir/)
  t.deepEqual(namesBelow(dir), [])
  t.is((await xferd('bench', '--dir', join(dir, 'missing'))).code, 1)
})

test('an interrupted benchmark ends with 130, and takes its servers and files with it', async (t) => {
  const dir = folder(t)
  const child = startXferd(
    'bench',
    '--size',
    '2MB',
    '--clients',
    '2',
    '--rounds',
    '1000',
    '--dir',
    dir,
    '--json',
  )
  const ended = outcome(child)
  let told = ''
  child.stderr?.on('data', (data) => {
    told += data
  })
  await until(() => /round 2 of 1000: xferd/.test(told))
  t.true(serversBelow(dir).length > 0 || process.platform !== 'linux')
  child.kill('SIGINT')
  const { code, stdout } = await ended
  t.is(code, 130)
  t.is(JSON.parse(stdout).error.code, 'ABORTED')
  t.deepEqual(namesBelow(dir), [])
  await until(() => serversBelow(dir).length === 0)
})

/** Where 20,000 files are made and deleted in a moment, if there is such a place. */
function inMemory(t: ExecutionContext): string {
  if (!existsSync('/dev/shm')) return folder(t)
  const path = mkdtempSync('/dev/shm/xferd-test-')
  t.teardown(() => rmSync(path, { recursive: true, force: true }))
  return path
}

/** Processes that were told to work below `dir`. */
function serversBelow(dir: string): string[] {
  if (process.platform !== 'linux') return []
  return readdirSync('/proc').filter((pid) => {
    try {
      return /^\d+$/.test(pid) && readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(`serve\0${dir}/`)
    } catch {
      // It has ended since.
      return false
    }
  })
}

/** Whether every element that is opened is closed, in order. */
function isWellFormed(markup: string): boolean {
  const open: string[] = []
  for (const [, close, name = '', empty] of markup.matchAll(/<(\/?)([a-z0-9]+)(?:\s[^<>]*?)?(\/?)>/g)) {
    if (close) {
      if (open.pop() !== name) return false
    } else if (!empty) open.push(name)
  }
  return open.length === 0 && !/<[^a-z/]|&(?!#\d+;)/.test(markup)
}
