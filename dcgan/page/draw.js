// Draw by the ONNX file of this folder, in the browser: what the server does for --page.
'use strict';

// NumPy's RandomState: MT19937, https://doi.org/10.1145/272991.272995
class RandomState {
  constructor(seed) {
    this.words = new Uint32Array(624);
    this.at = 624;
    for (let i = 0; i < 624; i++) {
      this.words[i] = seed;
      seed = Math.imul(1812433253, seed ^ (seed >>> 30)) + i + 1;
    }
  }
  word() {
    const words = this.words;
    if (this.at === 624) {
      for (let i = 0; i < 624; i++) {
        const y = (words[i] & 0x80000000) | (words[(i + 1) % 624] & 0x7fffffff);
        words[i] = words[(i + 397) % 624] ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0);
      }
      this.at = 0;
    }
    let y = words[this.at++];
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    return (y ^ (y >>> 18)) >>> 0;
  }
  unit() {  // in [0, 1), with 53 random bits
    const high = this.word() >>> 5, low = this.word() >>> 6;
    return (high * 2 ** 26 + low) / 2 ** 53;
  }
  normal() {  // by the polar method, which makes two at once
    if (this.second !== undefined) {
      const second = this.second;
      this.second = undefined;
      return second;
    }
    let x, y, square;
    do {
      x = 2 * this.unit() - 1;
      y = 2 * this.unit() - 1;
      square = x * x + y * y;
    } while (square >= 1 || square === 0);
    const factor = Math.sqrt(-2 * Math.log(square) / square);
    this.second = factor * x;
    return factor * y;
  }
}
const Z_DISTRIBUTIONS = {  // as in dcgan/util/z.py
  normal01: random => random.normal(),
  uniform_signed: random => -1 + 2 * random.unit(),
  uniform_unsigned: random => random.unit(),
};
function randomZ(distribution, seed, count, size) {
  const random = new RandomState(seed), next = Z_DISTRIBUTIONS[distribution];
  return Array.from({length: count}, () => Array.from({length: size}, () => Math.fround(next(random))));
}

async function fetchFile(name) {
  const response = await fetch(name, {cache: 'no-cache'});  // the folder may be written again
  if (!response.ok) throw new Error(`${name} is not on this web server (${response.status}).`);
  return response;
}
// the address of a script as JavaScript: not every web server knows .mjs
async function scriptAddress(name) {
  return URL.createObjectURL(new Blob([await (await fetchFile(name)).text()], {type: 'text/javascript'}));
}
const tell = text => { document.getElementById('status').textContent = text; };
async function load() {
  if (location.protocol === 'file:')
    throw new Error('A browser opens this page from a web server only, such as: python -m http.server');
  const model = await (await fetchFile('model.json')).json();
  const fetchBytes = async name => {
    const bytes = new Uint8Array(await (await fetchFile(name)).arrayBuffer());
    if (bytes.length === model.sizes[name]) return bytes;
    throw new Error(`${name} is not the one that belongs to model.json: copy the whole folder again.`);
  };
  const total = Object.values(model.sizes).reduce((sum, size) => sum + size);
  tell(`Loading ${Math.round(total / 1e6)} MB ...`);
  const [runtime, mjs, wasm, generator] = await Promise.all([
    scriptAddress('ort.wasm.min.mjs'), scriptAddress('ort-wasm-simd-threaded.mjs'),
    fetchBytes('ort-wasm-simd-threaded.wasm'), fetchBytes('generator.onnx')]);
  try {
    const ort = await import(runtime);
    Object.assign(ort.env.wasm, {numThreads: 1, wasmPaths: {mjs}, wasmBinary: wasm});
    const session = await ort.InferenceSession.create(generator, {executionProviders: ['wasm']});
    return {ort, model, session};
  } catch (error) { throw new Error(`This browser cannot run the model: ${error.message}`); }
}
const loaded = load();
loaded.catch(() => tell(''));

let turn = Promise.resolve(), milliseconds = 50;  // of a sample
// The pixels of rows of z, Uint8Array [n, h, w, c]; requests take turns
function run({ort, model, session}, rows, classes, signal) {
  const size = model.batch ?? rows.length;  // a fixed batch is filled up
  const fill = all => Array.from({length: size}, (_, i) => all[i % all.length]);
  const feed = {z: new ort.Tensor('float32', Float32Array.from(fill(rows).flat()), [size, model.z_dim])};
  if (model.classes.length) feed.label = new ort.Tensor('int32', Int32Array.from(fill(classes)), [size]);
  turn = turn.catch(() => {}).then(async () => {
    await new Promise(done => setTimeout(done));  // the page stays responsive
    signal?.throwIfAborted();
    const start = performance.now(), {images} = await session.run(feed, ['images']);
    milliseconds = (performance.now() - start) / size;
    tell(`Drawn in this browser, ${milliseconds.toFixed(milliseconds < 10 ? 1 : 0)} ms a sample`);
    return images.data.subarray(0, images.data.length / size * rows.length);
  });
  return turn;
}
// An image grid as a PNG in base64, as main.py draws it
async function drawGridOf(parts, z, labels, rows, columns, signal) {
  const {height, width} = parts.model, canvas = document.createElement('canvas');
  [canvas.width, canvas.height] = [columns * width, rows * height];
  const grid = new ImageData(canvas.width, canvas.height);
  for (let start = 0, end; start < z.length; start = end) {
    end = Math.min(start + (parts.model.batch ?? Math.max(1, Math.round(50 / milliseconds))), z.length);
    const images = await run(parts, z.slice(start, end), labels.slice(start, end), signal);
    const pixels = (end - start) * height * width, channels = images.length / pixels;
    for (let pixel = 0; pixel < pixels; pixel++) {
      const i = start + Math.floor(pixel / (height * width));
      const y = Math.floor(i / columns) * height + Math.floor(pixel / width) % height;
      const to = 4 * (y * canvas.width + i % columns * width + pixel % width);
      for (let c = 0; c < 3; c++) grid.data[to + c] = images[pixel * channels + c % channels];
    }
  }
  stretchContrast(grid.data);
  canvas.getContext('2d').putImageData(grid, 0, 0);
  return canvas.toDataURL('image/png').split(',')[1];
}
function stretchContrast(bytes) {  // of a whole grid, as in dcgan/data/images.py
  let low = 255, high = 0;
  for (let i = 0; i < bytes.length; i++) {
    if (i % 4 === 3) bytes[i] = 255;
    else { low = Math.min(low, bytes[i]); high = Math.max(high, bytes[i]); }
  }
  const scale = 255 / (high - low || 1);
  for (let i = 0; i < bytes.length; i++)
    if (i % 4 !== 3) bytes[i] = Math.floor((bytes[i] - low) * scale + 0.5);
}

// What the page's server would answer to `model`, `directions` and `samples`
async function answerHere(path, options = {}) {
  const parts = await loaded, {model} = parts;
  if (path !== 'samples') return new Response(JSON.stringify(model));
  const request = JSON.parse(options.body), seeded = [request.seed ?? 0, request.count ?? 1, model.z_dim];
  const z = request.z ?? randomZ(model.z_dist, ...seeded);
  const classes = request.labels ?? (model.classes.length ? [...model.classes.keys()] : [-1]);
  const labels = z.map((_, i) => classes[i % classes.length]);
  const columns = request.columns ?? Math.ceil(Math.sqrt(z.length));
  const rows = request.columns ? Math.ceil(z.length / columns) : columns;
  const png = await drawGridOf(parts, z, labels, rows, columns, options.signal);
  if (request.format === 'png') return new Response(Uint8Array.from(atob(png), c => c.charCodeAt(0)));
  return new Response(JSON.stringify({step: model.step, columns, labels, z, png}));
}
