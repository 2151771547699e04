const one = (selector) => element.querySelector(selector);
const canvas = one('canvas'), pen = canvas.getContext('2d'), width = one('.dn-width');
const COLOURS = ['#3b82f6', '#ef4444', '#22c55e', '#eab308', '#a855f7', '#f97316', '#06b6d4',
  '#ec4899', '#84cc16', '#8b5cf6', '#14b8a6', '#f43f5e'];
const ERASER = -1;
// Outside of this widget, which is made anew whenever it is shown again
const page = (window.deeplabNative ??= {});
page.drawn ??= {
  photo: null,
  labels: [{name: 'background', colour: COLOURS[0]}, {name: 'object', colour: COLOURS[1]}],
  strokes: [],
};
let {labels, strokes} = page.drawn;
let current = null, label = 1, erasing = false, photo = null;
let cursor = null, lowered = false; // of the keyboard

function paint() {
  pen.clearRect(0, 0, canvas.width, canvas.height);
  pen.lineCap = pen.lineJoin = 'round';
  for (const stroke of current ? [...strokes, current] : strokes) {
    const erase = stroke.label === ERASER;
    pen.globalCompositeOperation = erase ? 'destination-out' : 'source-over';
    pen.strokeStyle = erase ? '#000' : labels[stroke.label].colour;
    pen.lineWidth = stroke.width;
    pen.beginPath();
    const [x, y, ...rest] = stroke.points;
    pen.moveTo(x, y);
    if (!rest.length) pen.lineTo(x + 0.01, y);
    for (let i = 0; i < rest.length; i += 2) pen.lineTo(rest[i], rest[i + 1]);
    pen.stroke();
  }
  pen.globalCompositeOperation = 'source-over';
  if (cursor && document.activeElement === canvas) {
    pen.lineWidth = 2;
    for (const [colour, more] of [['#000', 1], ['#fff', 0]]) {
      pen.strokeStyle = colour;
      pen.beginPath();
      pen.arc(...cursor, brush() / 2 + more, 0, 7);
      pen.stroke();
    }
  }
}
function keep() {
  page.drawn = {photo, labels, strokes};
  props.value = page.drawn;
}
function send() {
  keep();
  trigger('submit');
}
function changed() {
  paint();
  send();
}
// in pixels of the photograph, whatever size it is shown at
const scale = () => canvas.width / canvas.getBoundingClientRect().width;
const brush = () => Number(width.value) * Math.max(1, canvas.width / 600);
const start = (x, y) => {
  current = {label: erasing ? ERASER : label, width: brush(), points: [round(x), round(y)]};
};
const round = (value) => Math.round(value * 10) / 10;
function finish() {
  if (!current) return;
  strokes.push(current);
  current = null;
  changed();
}
function at(event) {
  const box = canvas.getBoundingClientRect();
  return [(event.clientX - box.left) * scale(), (event.clientY - box.top) * scale()];
}
canvas.addEventListener('pointerdown', (event) => {
  if (event.button) return;
  canvas.setPointerCapture(event.pointerId);
  start(...at(event));
  paint();
});
canvas.addEventListener('pointermove', (event) => {
  if (!current || lowered) return;
  for (const one of event.getCoalescedEvents?.() ?? [event]) current.points.push(...at(one).map(round));
  paint();
});
canvas.addEventListener('pointerup', finish);
canvas.addEventListener('pointercancel', finish);
canvas.addEventListener('focus', paint);
canvas.addEventListener('blur', () => { lowered = false; finish(); paint(); });
canvas.addEventListener('keydown', (event) => {
  const step = (event.shiftKey ? 2 : 10) * scale();
  const move = {ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step]}[event.key];
  if (!move && event.key !== ' ') return;
  event.preventDefault();
  cursor ??= [canvas.width / 2, canvas.height / 2];
  if (move) {
    cursor = [Math.min(canvas.width, Math.max(0, cursor[0] + move[0])),
      Math.min(canvas.height, Math.max(0, cursor[1] + move[1]))];
    if (lowered) current.points.push(...cursor.map(round));
  } else if (lowered) {
    lowered = false;
    finish();
  } else {
    lowered = true;
    start(...cursor);
  }
  paint();
});

function listed() {
  one('.dn-brushes').replaceChildren(...labels.map((it, i) => {
    const row = document.createElement('li');
    const radio = Object.assign(document.createElement('input'), {type: 'radio', name: 'dn-label', checked: i === label && !erasing});
    const colour = Object.assign(document.createElement('input'), {type: 'color', value: it.colour});
    const name = Object.assign(document.createElement('input'), {type: 'text', value: it.name, maxLength: 40});
    const remove = Object.assign(document.createElement('button'), {type: 'button', textContent: '×'});
    radio.ariaLabel = `Paint ${it.name}`;
    colour.ariaLabel = `Colour of ${it.name}`;
    name.ariaLabel = `Name of label ${i}`;
    remove.ariaLabel = `Remove ${it.name}`;
    remove.disabled = labels.length <= 2;
    radio.addEventListener('change', () => { label = i; erase(false); });
    colour.addEventListener('input', () => { it.colour = colour.value; paint(); });
    colour.addEventListener('change', () => { if (strokes.length) send(); });
    name.addEventListener('change', () => {
      it.name = name.value;
      radio.ariaLabel = `Paint ${it.name}`;
      if (strokes.length) send();
    });
    remove.addEventListener('click', () => {
      labels.splice(i, 1);
      strokes = strokes.filter((stroke) => stroke.label !== i)
        .map((stroke) => (stroke.label > i ? {...stroke, label: stroke.label - 1} : stroke));
      label = Math.min(label, labels.length - 1);
      listed();
      changed();
    });
    row.append(radio, colour, name, remove);
    return row;
  }));
  one('.dn-add').disabled = labels.length >= COLOURS.length;
}
function erase(on) {
  erasing = on;
  one('.dn-erase').setAttribute('aria-pressed', String(on));
  listed();
}
one('.dn-add').addEventListener('click', () => {
  const free = COLOURS.find((colour) => !labels.some((it) => it.colour === colour));
  labels.push({name: `object ${labels.length}`, colour: free ?? COLOURS[0]});
  label = labels.length - 1;
  erase(false);
});
one('.dn-erase').addEventListener('click', () => erase(!erasing));
one('.dn-undo').addEventListener('click', () => { strokes.pop(); changed(); });
one('.dn-clear').addEventListener('click', () => { strokes = []; changed(); });

function show(detail) {
  if (!detail || photo === detail.number) return;
  if (page.drawn.photo !== detail.number) strokes = [];
  photo = detail.number;
  [canvas.width, canvas.height] = [detail.width, detail.height];
  one('.dn-missing').hidden = true;
  one('.dn-canvas').hidden = false;
  one('.dn-canvas img').src = `picture/${page.secret}/photo?v=${photo}`;
  current = cursor = null;
  keep();
  paint();
}
// one that is shown no more listens no more
const listener = (event) => {
  if (element.isConnected) show(event.detail);
  else document.removeEventListener('dn-photo', listener);
};
document.addEventListener('dn-photo', listener);
show(page.photo);
listed();
if (strokes.length) send();
