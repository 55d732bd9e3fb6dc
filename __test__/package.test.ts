import { execFile } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import test from 'ava'
import { folder, REPOSITORY } from './fixture.js'

const run = promisify(execFile)

test('the package installs in an empty folder and works there', async (t) => {
  const cwd = folder(t)
  const packed = await run('npm', ['pack', '--json', '--pack-destination', cwd], { cwd: REPOSITORY })
  const [{ filename, files }] = JSON.parse(packed.stdout)
  const paths: string[] = files.map(({ path }: { path: string }) => path)
  t.deepEqual(
    paths.filter((path) => !/^(bin|dist|native)\/|^(package\.json|README\.md|LICENSE)$/.test(path)),
    [],
    'nothing but what is needed',
  )

  writeFileSync(join(cwd, 'package.json'), '{}')
  await run('npm', ['install', '--offline', '--no-audit', join(cwd, filename)], { cwd })

  const script = `
    const server = await serve({ root: '.', listen: ['xfer://127.0.0.1:0'] })
    const client = await connect(server.addresses[0])
    console.log((await client.stat('package.json')).kind)
    await client.close()
    await server.close()`
  writeFileSync(join(cwd, 'esm.mjs'), `import { serve, connect } from 'xferd'\n${script}`)
  writeFileSync(
    join(cwd, 'cjs.cjs'),
    `const { serve, connect } = require('xferd')\n;(async () => {${script}})()`,
  )
  for (const file of ['esm.mjs', 'cjs.cjs']) {
    t.is((await run(process.execPath, [file], { cwd })).stdout, 'file\n', file)
  }
  t.regex((await run('npx', ['--no-install', 'xferd', '--version'], { cwd })).stdout, /^xferd\/\d/)

  const program = `
    import { type Client, connect, connectKv, type KvClient, type Entry, type Progress, type Receipt, serve, XferdError } from 'xferd'
    export async function keys(kv: KvClient): Promise<string | null> {
      await using own = await connectKv('kv://127.0.0.1', { connections: 2 })
      const bytes: Buffer | null = await own.with({ buffers: true }).get('a')
      const [count, set]: [number, 'OK' | null] = await kv.transaction((t) => [t.incr('a'), t.set("b", bytes ?? 1)])
      for await (const { message } of kv.subscribe('news')) return message + set
      return (await kv.zpopmin('z', 1))[0]?.member ?? (await kv.lpop('l'))
    }
    export async function main(): Promise<Receipt> {
      await using server = await serve({ root: '.' })
      await using client: Client = await connect(server.addresses[0])
      const transfer = client.push('a', 'b', { mmap: true, signal: AbortSignal.timeout(1000) })
      for await (const progress of transfer) { const seen: Progress = progress; void seen }
      const entries: Entry[] = await client.list()
      client.readStream('b', { start: 0, end: entries.length }).pipe(client.writeStream('c'))
      try { return await transfer } catch (error) {
        if (error instanceof XferdError && error.retryable) return await client.pull('b', 'c')
        throw error
      }
    }`
  writeFileSync(join(cwd, 'program.mts'), program)
  writeFileSync(join(cwd, 'program.cts'), program)
  const modules = join(REPOSITORY, 'node_modules')
  const flags = [
    '--strict',
    '--noUncheckedIndexedAccess',
    '--noEmit',
    '--module',
    'nodenext',
    '--target',
    'es2023',
    '--types',
    'node',
  ]
  const places = ['--lib', 'es2023,esnext.disposable', '--typeRoots', join(modules, '@types')]
  await t.notThrowsAsync(
    run(join(modules, '.bin/tsc'), [...flags, ...places, 'program.mts', 'program.cts'], { cwd }),
  )
})
