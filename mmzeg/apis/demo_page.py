"""The demo page of ``tools/webapp.py``: an image, class names, and the results of the modes seg, img and full."""

from collections.abc import Sequence

import gradio as gr

from mmzeg.apis.demo_page_events import MODES, SESSION_SECONDS, EventHandlers
from mmzeg.apis.demo_page_html import CSS
from mmzeg.apis.inferencer import ZeroShotInferencer

# Seconds between deletions of old files.
CLEANUP_SECONDS = 300
# Users whose sessions are kept (the latest ones), and users who may wait for the network.
MAX_SESSIONS, MAX_WAITING = 16, 32
# Gradio gives the buttons of examples no accessible name.
LABEL_EXAMPLES = """() => document.querySelectorAll('.gallery-item').forEach(
    (button, index) => button.setAttribute('aria-label', `Example ${index + 1}`))"""
# No font from another server; notes dark enough to be read.
THEME = gr.themes.Base(font=['system-ui', 'sans-serif'], font_mono=['ui-monospace', 'monospace']).set(
    block_info_text_color='*neutral_600', block_info_text_color_dark='*neutral_300'
)


def build_page(inferencer: ZeroShotInferencer, examples: Sequence[str] = ()) -> gr.Blocks:
    """Build the page, ready for ``serve``.

    Args:
        inferencer (ZeroShotInferencer): The model; shared by all users.
        examples (Sequence[str]): Image files to offer.
    """
    fusion = inferencer.model.fusion
    handlers = EventHandlers(inferencer)
    modes = handlers.modes
    names = '\n'.join(inferencer.model.vocabulary.names)
    with gr.Blocks(title='mmzeg', analytics_enabled=False, delete_cache=(CLEANUP_SECONDS, SESSION_SECONDS)) as page:
        session = gr.State(None, time_to_live=SESSION_SECONDS)
        gr.Markdown(
            '# mmzeg: zero-shot segmentation\nGive an image and class names. A star marks classes that the model was '
            'not trained on. Click a result to see why a pixel has its label.'
        )
        # Inputs: image and class names.
        with gr.Row():
            with gr.Column(scale=2, min_width=280):
                image = gr.Image(
                    label='Image', sources=['upload', 'clipboard'], height=300, elem_id='image', buttons=[]
                )
                if examples:
                    gr.Examples(list(examples), image, label='Examples')
            with gr.Column(scale=3, min_width=280):
                text = gr.Textbox(
                    names,
                    label='Class names',
                    info='One per line, or separated by ";". "cat, kitten" is one class with a synonym.',
                    lines=5,
                    max_lines=8,
                    elem_id='class_names',
                )
                parsed_names = gr.HTML(handlers.parsed_names(names), elem_classes='mmzeg', elem_id='parsed_names')
                segment_button = gr.Button('Segment', variant='primary', elem_id='segment')
        message = gr.HTML(elem_classes='mmzeg', elem_id='message')
        # Settings.
        with gr.Row():
            gamma = _slider('gamma', fusion.gamma, 'Calibration (gamma)', 'Subtracted from the scores of seen classes.')
            lam = _slider(
                'lam',
                fusion.lam,
                'Ensemble weight (lambda)',
                "Weight of CLIP's score for unseen classes, and of the text classifier's for seen ones.",
                visible='full' in modes,
            )
        # Results.
        with gr.Row():
            results = [
                gr.Image(
                    label=MODES[mode],
                    format='jpeg',
                    interactive=False,
                    min_width=280,
                    buttons=['fullscreen'],
                    alt_text=f'The image with the colours of its classes, {MODES[mode]}',
                    elem_id=f'result_{mode}',
                )
                for mode in modes
            ]
        with gr.Row():
            with gr.Column(min_width=280):
                legend = gr.HTML(elem_classes='mmzeg', elem_id='legend')
            with gr.Column(min_width=280):
                explanation = gr.HTML(elem_classes='mmzeg', elem_id='explanation')
        # The explanation of a pixel without a mouse, and files.
        with gr.Row():
            mode = gr.Radio(modes, value=modes[-1], label='Result', elem_id='mode', min_width=280)
            x, y = (
                gr.Number(0, label=f'Pixel {axis}', precision=0, minimum=0, min_width=100, elem_id=f'pixel_{axis}')
                for axis in 'xy'
            )
            explain_button = gr.Button('Why this label?', elem_id='explain')
            files_button = gr.Button('Create mask (PNG) and segments (JSON)', elem_id='make_files')
        files = gr.File(label='Files', file_count='multiple', interactive=False, visible=False, elem_id='files')

        # Events. The inferencer segments one image at a time, so these wait for each other.
        private = dict(api_visibility='private')
        queued = dict(private, concurrency_id='network', concurrency_limit=1, trigger_mode='always_last')
        settings = [gamma, lam]
        outputs = [session, message, *results, legend, explanation, files]
        # Not preprocessed by Gradio: the inferencer reads the file and says what is wrong with it.
        image.change(handlers.load_image, [image, text, *settings], outputs, preprocess=False, **queued)
        gr.on([segment_button.click, text.submit], handlers.classify, [session, text, *settings], outputs, **queued)
        files_button.click(handlers.make_files, [session, mode, *settings], [files, message], **queued)
        # What only redraws does not wait for other users' images.
        immediate = dict(private, queue=False, show_progress='hidden', trigger_mode='always_last')
        text.change(handlers.parsed_names, text, parsed_names, **immediate)
        gr.on([gamma.input, lam.input], handlers.redraw, [session, *settings], [*results, legend], **immediate)
        for result_mode, result in zip(modes, results, strict=True):
            on_click = handlers.click_handler(result_mode)
            result.select(on_click, [session, *settings], [*results, explanation], **immediate)
        pixel_inputs = [session, mode, x, y, *settings]
        explain_button.click(handlers.explain_pixel, pixel_inputs, [*results, explanation], **immediate)
        page.load(None, js=LABEL_EXAMPLES)
    return page


def serve(page: gr.Blocks, host: str, port: int | None, max_upload: str = '20mb') -> str:
    """Serve the page from a thread, without Gradio's share link, API page and history of runs.

    Args:
        page (gr.Blocks): From ``build_page``.
        host (str): Address to listen on.
        port (int, optional): Defaults to the first free one from 7860 on.
        max_upload (str): Size of the largest file, such as "20mb".

    Returns:
        str: The page's address.

    Raises:
        OSError: The port is in use.
    """
    page.queue(max_size=MAX_WAITING)
    _, address, _ = page.launch(
        server_name=host,
        server_port=port,
        max_file_size=max_upload,
        state_session_capacity=MAX_SESSIONS,
        theme=THEME,
        css=CSS,
        footer_links=[],
        run_history=False,
        share=False,
        ssr_mode=False,
        mcp_server=False,
        pwa=False,
        enable_monitoring=False,
        quiet=True,
        prevent_thread_lock=True,
    )
    return address


def _slider(name: str, value: float, label: str, info: str, **options: object) -> gr.Slider:
    """Return a slider from 0 to 1 in hundredths."""
    return gr.Slider(0, 1, round(value, 2), step=0.01, label=label, info=info, min_width=280, elem_id=name, **options)
