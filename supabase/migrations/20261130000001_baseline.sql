-- The database of Glimpse3D: tables, atomic steps as functions, rights, and the buckets of Storage.
-- Runs on any PostgreSQL >= 15 and on Supabase, as often as one likes.
--
--   (head)      refuses a database where another program has these names
--   TABLES      projects, photos, jobs, results, pictures, deletions and messages, views
--   FUNCTIONS   documents, parts, then the steps: projects, photos, jobs, files without rows,
--               messages
--   RIGHTS      guards, what is there, who may do what
--   BUCKETS     only where there is Supabase Storage
--
-- From the first release on nothing in this file changes, and migrations only grow: a later file
-- adds what is new. `_v1` is part of a function's name: a changed meaning is a new function (`_v2`)
-- beside the old one, so that replicas of two releases can share a database; documents and tables
-- only gain names. Each later file redefines `schema_version_v1`, and ends with `guard_functions_v1`
-- of what it adds or replaces (which takes the owner's rights away again) and `guard_tables_v1`.
-- It refuses names of another program itself, as the head of this one does.
-- What all files make together is in supabase/schema.sql.

-- ---------------------------------------------------------------------------------------------
-- Names of ours that another program has would be taken over: `create or replace` makes its function
-- another one, its table loses its rights. Whoever has these objects from an earlier checkout has the
-- one or the other of what is asked for first.
do $$
declare
    v_found text;
begin
    if to_regprocedure('public.schema_version_v1()') is not null
        or exists (select 1 from pg_constraint
                    where connamespace = 'public'::regnamespace
                      and conname = 'projects_id_is_a_path_component') then
        return;
    end if;
    select string_agg(found.name, ', ' order by found.name) into v_found from (
        select case relkind when 'v' then 'view ' else 'table ' end || relname as name
          from pg_class
         where relnamespace = 'public'::regnamespace and relname = any (array[
            'contact_sheets', 'deletions', 'depth_maps', 'enhanced_views', 'enhancement_iterations',
            'export_history', 'file_store', 'gaussian_splat_models', 'job_events', 'job_stages',
            'jobs', 'model_previews', 'multiview_generation', 'project_photos', 'project_summary',
            'projects', 'refinement_metrics', 'refinement_progress', 'view_edits', 'webhooks'])
        union
        select 'function ' || proname from pg_proc
         where pronamespace = 'public'::regnamespace and proname = any (array[
            'add_job_event_v1', 'add_job_state_event_v1', 'ago_v1', 'arrange_photos_v1',
            'begin_photo_v1', 'begin_upload_v1',
            'cancel_job_v1', 'check_lease_v1', 'check_limit_v1', 'check_version_v1', 'claim_job_v1',
            'claim_webhook_v1',
            'commit_stage_v1', 'committed_v1', 'delete_project_v1', 'due_deletions_v1',
            'due_photos_v1', 'end_deletion_v1', 'end_job_v1', 'end_photo_v1', 'ended_jobs_v1',
            'expected_seconds_v1', 'expire_projects_v1', 'expire_uploads_v1', 'file_store_v1',
            'find_photo_v1', 'find_upload_v1',
            'finish_job_v1',
            'finish_upload_v1', 'finish_webhook_v1', 'forget_v1', 'generation_of_v1', 'get_job_v1',
            'get_project_v1',
            'guard_functions_v1', 'guard_tables_v1', 'heartbeat_v1', 'inspect_v1',
            'is_false_start_v1', 'is_forgotten_v1', 'is_marked_v1', 'job_document_v1',
            'job_events_v1', 'jobs_to_sweep_v1', 'list_projects_v1', 'lock_attempt_v1',
            'lock_idle_project_v1', 'lock_project_v1', 'mark_project_v1', 'mark_swept_v1',
            'name_file_store_v1', 'photo_document_v1', 'photos_document_v1', 'project_detail_v1',
            'project_document_v1', 'project_events_v1', 'project_jobs_v1', 'project_name_key_v1',
            'publish_preview_v1',
            'purge_project_v1', 'put_view_edit_v1', 'queue_order_v1', 'queue_v1',
            'referenced_paths_v1', 'release_job_v1', 'restore_version_v1', 'schema_version_v1',
            'show_job_on_project_v1', 'stage_memory_v1', 'stage_status_v1', 'submit_job_v1',
            'take_photo_back_v1', 'take_view_edit_v1', 'touch_updated_at',
            'view_edit_document_v1'])
    ) as found;
    if v_found is not null then
        raise exception 'This database has objects of another program under names that Glimpse3D '
            'needs: %. Nothing was changed. Give Glimpse3D a database of its own, which on Supabase '
            'is another project.', v_found using errcode = 'GL412';
    end if;
end
$$;

create or replace function public.schema_version_v1() returns text
language sql immutable parallel safe set search_path = public, pg_temp as $$
    select '20261130000001'
$$;
comment on function public.schema_version_v1() is 'Timestamp of the newest migration.';

-- =============================================================================================
-- TABLES
--
--   projects 1-* project_photos                           what was given
--   projects 1-* jobs 1-* job_events                      what was asked for, and how it went
--                jobs 1-1 webhooks                        who is told of the end
--                jobs 1-* job_stages 1-* multiview_generation, depth_maps,
--                                        gaussian_splat_models, enhancement_iterations
--                                        1-1 refinement_metrics, enhanced_views, export_history,
--                                        model_previews, contact_sheets
--                     gaussian_splat_models 1-* view_edits
--   projects 1-1 deletions                                outlives the project
--
-- Every result row hangs on the stage of the job that committed it: deleting the `job_stages`
-- row takes back all the stage committed, which is how a stage is committed a second time.

-- ---------------------------------------------------------------------------------------------
-- projects
--
-- status:  uploading -> preprocessing -> ready                    an upload
--          any -> ready                                           submit_job (waits in the queue)
--          ready -> multiview_generating -> depth_estimating -> reconstructing   generate
--          ready -> enhancing <-> refining                        refine
--          ready -> exporting                                     export
--          ready | running words -> completed | failed | cancelled   the end of a job
-- A failed or cancelled project keeps all that was committed, and takes further jobs.
create table if not exists public.projects (
    id text primary key
        constraint projects_id_is_a_path_component check (id ~ '^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$'),
    status text not null default 'ready'
        constraint projects_status_is_known check (status in (
            'uploading', 'preprocessing', 'ready', 'multiview_generating', 'depth_estimating',
            'reconstructing', 'enhancing', 'refining', 'exporting', 'completed', 'failed',
            'cancelled')),
    current_step text not null default '',
    progress_percentage double precision not null default 0
        constraint projects_progress_is_a_percentage check (progress_percentage between 0 and 100),
    error text,
    created_at timestamptz not null default clock_timestamp(),
    updated_at timestamptz not null default clock_timestamp(),
    -- An upload's, until the project is marked for deletion or its history is forgotten.
    idempotency_key text
        constraint projects_idempotency_key_has_1_to_255_characters check (
            length(idempotency_key) between 1 and 255),
    fingerprint text,
    -- who uploaded it, an opaque word: keys of different clients have nothing to do with each other
    client text not null default '',
    -- grows with every change of its photos: who changes them says which ones it has seen
    photos_revision bigint not null default 0,
    -- the model version that further work begins with; null before there is one
    current_version integer
);
-- Of databases made before the first release.
alter table public.projects add column if not exists client text not null default '';
alter table public.projects add column if not exists photos_revision bigint not null default 0;
alter table public.projects add column if not exists current_version integer;
alter table public.projects drop constraint if exists projects_idempotency_key_is_unique;

create unique index if not exists projects_one_key_per_client
    on public.projects (client, idempotency_key) where idempotency_key is not null;
-- keys to forget
create index if not exists projects_with_a_key on public.projects (created_at)
    where idempotency_key is not null;
create index if not exists projects_newest_first on public.projects (created_at desc, id);
-- lists, expiry
create index if not exists projects_by_time on public.projects (created_at, id);
create index if not exists projects_by_status_and_time on public.projects (status, created_at, id);

-- ---------------------------------------------------------------------------------------------
-- photos
--
--   begin_photo        arrange_photos                arrange_photos
--   ----------> arriving -----------> listed ---------------------> kept     a job has worked with it
--                  |                     `------------------------> removed  no job has
--                  `-- take_photo_back, or due_photos after a while --> removed --end_photo--> gone
--
-- A project's photos are its listed ones; the one in place 0 is the first, which the world's frame
-- begins with, and what is told of it stands here alone. A row's files never change: a photo that is
-- replaced is another row. A generation works with the photos as they were when it was submitted:
-- `jobs.photos` has them, and rows that it names are kept for good.
create table if not exists public.project_photos (
    id text primary key
        constraint project_photos_id_is_a_path_component check (
            id ~ '^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$'),
    project_id text not null references public.projects (id) on delete cascade,
    state text not null default 'arriving'
        constraint project_photos_state_is_known check (
            state in ('arriving', 'listed', 'kept', 'removed')),
    position integer
        constraint project_photos_position_is_0_to_7 check (position between 0 and 7),
    original_path text not null
        constraint project_photos_original_path_is_set check (original_path <> ''),
    processed_path text not null
        constraint project_photos_processed_path_is_set check (processed_path <> ''),
    background_engine text not null,
    -- content hash of the stored original; empty: not known
    sha256 text not null default '',
    -- whence it was taken, as far as somebody said so: a side, or angles in degrees
    side text
        constraint project_photos_side_is_known check (
            side in ('front', 'left', 'right', 'back', 'top')),
    azimuth_deg double precision
        constraint project_photos_azimuth_is_an_angle check (azimuth_deg between -360 and 360),
    elevation_deg double precision
        constraint project_photos_elevation_is_an_angle check (elevation_deg between -90 and 90),
    notes jsonb not null default '[]'
        constraint project_photos_notes_is_a_list check (jsonb_typeof(notes) = 'array'),
    created_at timestamptz not null default clock_timestamp(),
    -- Of the request that added it alone, until its history is forgotten.
    idempotency_key text
        constraint project_photos_idempotency_key_has_1_to_255_characters check (
            length(idempotency_key) between 1 and 255),
    fingerprint text not null default '',
    client text not null default '',
    constraint project_photos_listed_iff_in_a_place check (
        (state = 'listed') = (position is not null)),
    constraint project_photos_side_or_angles check (
        side is null or (azimuth_deg is null and elevation_deg is null)),
    -- Deferred: places are exchanged.
    constraint project_photos_one_per_position unique (project_id, position)
        deferrable initially deferred
);
create unique index if not exists project_photos_one_key_per_client
    on public.project_photos (client, idempotency_key) where idempotency_key is not null;
-- keys to forget
create index if not exists project_photos_with_a_key on public.project_photos (created_at)
    where idempotency_key is not null;
-- files to delete
create index if not exists project_photos_to_remove on public.project_photos (created_at)
    where state in ('arriving', 'removed');

-- ---------------------------------------------------------------------------------------------
-- jobs
--
--      submit          claim (fence + 1, attempt + 1)       finish
--   --------> queued --------------------------> running --------> succeeded | failed | cancelled
--               ^  \                              |  |  \
--               |   `--- cancel --> cancelled     |  |   `-- claim by another driver, when the
--               `---- release --------------------'  |       lease has expired: stays running,
--                                                    |       fence + 1, attempt + 1
--                                                    `------ cancel: asked for by a flag that the
--                                                            next heartbeat returns
-- A running job whose lease has expired ends as cancelled when its cancellation was asked for, and
-- as failed when no attempt is left. A release takes the attempt back, unless it names an error;
-- then the last attempt fails the job. Ended jobs never change; after a while most of their history
-- goes (forget_v1).
--
-- A false start is a claim that ends before the attempt's first stage, by a release with an error
-- or by expiry: the driver was the fault, not the job. It costs no attempt, but a pause that grows
-- (or the lease that had to expire), unless there were too many in a row.
create table if not exists public.jobs (
    id text primary key default gen_random_uuid()::text,
    queue_number bigint generated always as identity
        constraint jobs_queue_number_is_unique unique,
    project_id text not null references public.projects (id) on delete cascade,
    kind text not null
        constraint jobs_kind_is_known check (kind in ('generate', 'refine', 'export')),
    state text not null default 'queued'
        constraint jobs_state_is_known check (
            state in ('queued', 'running', 'succeeded', 'failed', 'cancelled')),
    options jsonb not null default '{}',
    fingerprint text not null,
    idempotency_key text
        constraint jobs_idempotency_key_has_1_to_255_characters check (
            length(idempotency_key) between 1 and 255),
    stage text not null default '',
    progress double precision not null default 0
        constraint jobs_progress_is_a_fraction check (progress between 0 and 1),
    attempt integer not null default 0
        constraint jobs_attempt_is_not_negative check (attempt >= 0),
    max_attempts integer not null default 3
        constraint jobs_max_attempts_is_1_to_100 check (max_attempts between 1 and 100),
    fence bigint not null default 0
        constraint jobs_fence_counts_claims check (fence >= attempt),
    worker text,
    lease_expires_at timestamptz,
    cancel_requested boolean not null default false,
    error jsonb,
    result jsonb,
    last_event bigint not null default 0,
    created_at timestamptz not null default clock_timestamp(),
    started_at timestamptz,
    finished_at timestamptz,
    updated_at timestamptz not null default clock_timestamp(),
    -- who asked, an opaque word: takes turns with other clients, and has keys of its own
    client text not null default '',
    -- jobs of one kind and shape take as long
    shape text not null default '',
    -- what the stage is doing, for people
    step text not null default '',
    step_started_at timestamptz,
    -- of the newest event that had one
    told_progress double precision not null default 0,
    -- a job that was given back waits so long
    not_before timestamptz,
    -- why it was given back last
    last_error jsonb,
    webhook_url text
        constraint jobs_webhook_url_is_set check (webhook_url <> ''),
    -- the files of its project were compared with the rows after its end
    swept_at timestamptz,
    -- its events but the last one went, and its idempotency key
    forgotten_at timestamptz,
    -- in a row
    false_starts integer not null default 0
        constraint jobs_false_starts_are_not_negative check (false_starts >= 0),
    -- of a generation: the project's photos as they were when it was submitted, the first one first
    photos jsonb not null default '[]'
        constraint jobs_photos_is_a_list check (jsonb_typeof(photos) = 'array'),
    -- live models were told of, whose files no row names
    shown boolean not null default false,
    constraint jobs_lease_iff_running check ((state = 'running') = (lease_expires_at is not null)),
    constraint jobs_finished_iff_ended check (
        (state in ('succeeded', 'failed', 'cancelled')) = (finished_at is not null)),
    constraint jobs_result_iff_succeeded check ((state = 'succeeded') = (result is not null)),
    constraint jobs_failed_has_error check (state <> 'failed' or error is not null)
);
-- Of databases made before the first release.
alter table public.jobs add column if not exists forgotten_at timestamptz;
alter table public.jobs add column if not exists false_starts integer not null default 0
    constraint jobs_false_starts_are_not_negative check (false_starts >= 0);
alter table public.jobs add column if not exists photos jsonb not null default '[]'
    constraint jobs_photos_is_a_list check (jsonb_typeof(photos) = 'array');
alter table public.jobs add column if not exists shown boolean not null default false;
alter table public.jobs drop constraint if exists jobs_idempotency_key_is_unique;
drop index if exists public.jobs_by_lease;
drop index if exists public.jobs_to_sweep;

-- No index has a column that a heartbeat changes, so that its new versions of a row stay in the
-- row's page and touch no index (a fill factor buys nothing: the versions before make room). Few
-- jobs run at once: those whose lease has expired are found among all that run.

create unique index if not exists jobs_one_key_per_client
    on public.jobs (client, idempotency_key) where idempotency_key is not null;
-- claim, queue position, queue length
create index if not exists jobs_queue on public.jobs (queue_number)
    where state in ('queued', 'running');
create unique index if not exists jobs_one_active_per_project on public.jobs (project_id)
    where state in ('queued', 'running');
-- newest job of a project
create index if not exists jobs_of_project on public.jobs (project_id, queue_number desc);
-- when a client was served last
create index if not exists jobs_of_client on public.jobs (client, started_at);
-- how long similar jobs took
create index if not exists jobs_alike on public.jobs (kind, shape, finished_at desc)
    where state = 'succeeded';
create index if not exists jobs_not_swept on public.jobs (finished_at)
    where swept_at is null and (state in ('failed', 'cancelled')
                                or (state = 'succeeded' and (fence > 1 or shown)));
create index if not exists jobs_to_forget on public.jobs (finished_at)
    where forgotten_at is null;

-- Of databases made before the first release, in which a project was its one photo.
do $$
begin
    if exists (select 1 from pg_attribute
                where attrelid = 'public.projects'::regclass and attname = 'original_path'
                  and not attisdropped) then
        insert into public.project_photos (
            id, project_id, state, position, original_path, processed_path, background_engine,
            created_at)
        select id, id, 'listed', 0, original_path, processed_path, background_engine, created_at
          from public.projects
        on conflict (id) do nothing;
        update public.jobs j
           set photos = jsonb_build_array(
                   to_jsonb(f)
                   - array['project_id', 'state', 'idempotency_key', 'fingerprint', 'client'])
          from public.project_photos f
         where j.kind = 'generate' and f.project_id = j.project_id and f.position = 0;
        alter table public.projects
            drop column original_path, drop column processed_path, drop column background_engine;
    end if;
end
$$;

-- Numbered 1, 2, 3... per job without gaps: readers resume after the last number they saw. Of jobs
-- whose history was forgotten the last one is left.
create table if not exists public.job_events (
    job_id text not null references public.jobs (id) on delete cascade,
    seq bigint not null constraint job_events_seq_starts_at_1 check (seq >= 1),
    at timestamptz not null default clock_timestamp(),
    kind text not null,
    data jsonb not null default '{}',
    primary key (job_id, seq)
);
-- Of databases made before the first release, which knew fewer kinds.
alter table public.job_events drop constraint if exists job_events_kind_is_known;
alter table public.job_events add constraint job_events_kind_is_known check (
    kind in ('state', 'stage', 'progress', 'commit', 'cancel', 'preview'));

create table if not exists public.job_stages (
    job_id text not null references public.jobs (id) on delete cascade,
    stage text not null
        constraint job_stages_stage_has_1_to_100_characters check (length(stage) between 1 and 100),
    ordinal integer not null constraint job_stages_ordinal_starts_at_1 check (ordinal >= 1),
    seconds double precision not null
        constraint job_stages_seconds_is_not_negative check (seconds >= 0 and seconds < 'Infinity'),
    fence bigint not null,
    detail jsonb not null default '{}',
    committed_at timestamptz not null default clock_timestamp(),
    primary key (job_id, stage),
    constraint job_stages_ordinal_is_unique unique (job_id, ordinal)
);

-- ---------------------------------------------------------------------------------------------
-- results
create table if not exists public.multiview_generation (
    id bigint generated always as identity primary key,
    project_id text not null references public.projects (id) on delete cascade,
    job_id text not null,
    stage text not null,
    view_index integer not null
        constraint multiview_generation_view_index_is_not_negative check (view_index >= 0),
    image_path text not null
        constraint multiview_generation_image_path_is_set check (image_path <> ''),
    azimuth_deg double precision not null,
    elevation_deg double precision not null
        constraint multiview_generation_elevation_is_an_angle check (
            elevation_deg between -90 and 90),
    engine text not null,
    created_at timestamptz not null default clock_timestamp(),
    -- what somebody did to it; empty: it is as the engine made it
    edit text not null default ''
        constraint multiview_generation_edit_is_known check (edit in ('', 'replaced', 'struck')),
    constraint multiview_generation_one_row_per_view unique (job_id, view_index),
    foreign key (job_id, stage) references public.job_stages (job_id, stage) on delete cascade
);
-- Of databases made before the first release.
alter table public.multiview_generation add column if not exists edit text not null default ''
    constraint multiview_generation_edit_is_known check (edit in ('', 'replaced', 'struck'));
create index if not exists multiview_generation_of_project
    on public.multiview_generation (project_id);

create table if not exists public.depth_maps (
    id bigint generated always as identity primary key,
    project_id text not null references public.projects (id) on delete cascade,
    job_id text not null,
    stage text not null,
    view_index integer not null
        constraint depth_maps_view_index_is_not_negative check (view_index >= 0),
    depth_path text not null constraint depth_maps_depth_path_is_set check (depth_path <> ''),
    heat_map_path text not null,
    engine text not null,
    min_depth double precision not null,
    max_depth double precision not null,
    created_at timestamptz not null default clock_timestamp(),
    constraint depth_maps_range_is_ordered check (min_depth <= max_depth),
    constraint depth_maps_one_row_per_view unique (job_id, view_index),
    foreign key (job_id, stage) references public.job_stages (job_id, stage) on delete cascade
);
create index if not exists depth_maps_of_project on public.depth_maps (project_id);

create table if not exists public.gaussian_splat_models (
    id bigint generated always as identity primary key,
    project_id text not null references public.projects (id) on delete cascade,
    job_id text not null,
    stage text not null,
    version integer not null
        constraint gaussian_splat_models_version_is_not_negative check (version >= 0),
    model_path text not null
        constraint gaussian_splat_models_model_path_is_set check (model_path <> ''),
    engine text not null,
    origin text not null,
    splat_count bigint not null
        constraint gaussian_splat_models_splat_count_is_not_negative check (splat_count >= 0),
    file_size_bytes bigint not null
        constraint gaussian_splat_models_file_size_is_not_negative check (file_size_bytes >= 0),
    -- NaN sorts above Infinity: `< 'NaN'` refuses it and admits the infinite PSNR of equal images.
    psnr double precision
        constraint gaussian_splat_models_psnr_is_a_number check (psnr < 'NaN'),
    ssim double precision
        constraint gaussian_splat_models_ssim_is_in_range check (ssim between -1 and 1),
    lpips double precision
        constraint gaussian_splat_models_lpips_is_in_range check (lpips >= 0 and lpips < 'NaN'),
    view_agreement double precision
        constraint gaussian_splat_models_agreement_is_a_number check (view_agreement < 'NaN'),
    -- how far the model is expected to look like the object from sides that no photo showed
    expected_likeness double precision
        constraint gaussian_splat_models_likeness_is_in_range
            check (expected_likeness between 0 and 1),
    created_at timestamptz not null default clock_timestamp(),
    -- silhouette_iou, consistency, floaters, views (one object per view), extra (named numbers),
    -- photos (one object per photo), seen_share, evidence (named numbers);
    -- infinite numbers as text
    scores jsonb not null default '{}'
        constraint gaussian_splat_models_scores_is_an_object check (
            jsonb_typeof(scores) = 'object'),
    -- the version it was made from: the one that was refined, or whose views (and depth) a
    -- generation took; null where a generation began with the photo
    parent integer
        constraint gaussian_splat_models_parent_is_older check (parent < version),
    constraint gaussian_splat_models_one_row_per_version unique (project_id, version),
    foreign key (job_id, stage) references public.job_stages (job_id, stage) on delete cascade
);
-- Of databases made before the first release, in which every refinement began with the newest.
do $$
begin
    if not exists (select 1 from information_schema.columns
                    where table_schema = 'public' and table_name = 'gaussian_splat_models'
                      and column_name = 'parent') then
        alter table public.gaussian_splat_models add column parent integer
            constraint gaussian_splat_models_parent_is_older check (parent < version);
        update public.gaussian_splat_models m
           set parent = (select max(o.version) from public.gaussian_splat_models o
                          where o.project_id = m.project_id and o.version < m.version)
         where m.origin = 'refine';
        update public.projects p
           set current_version = (select max(m.version) from public.gaussian_splat_models m
                                   where m.project_id = p.id);
    end if;
    if not exists (select 1 from pg_constraint
                    where conrelid = 'public.gaussian_splat_models'::regclass
                      and conname = 'gaussian_splat_models_parent_exists') then
        -- Deferred: a stage committed anew takes its models away before it brings them back.
        alter table public.gaussian_splat_models
            add constraint gaussian_splat_models_parent_exists foreign key (project_id, parent)
            references public.gaussian_splat_models (project_id, version)
            deferrable initially deferred;
    end if;
end
$$;
create index if not exists gaussian_splat_models_of_stage
    on public.gaussian_splat_models (job_id, stage);

create table if not exists public.enhancement_iterations (
    id bigint generated always as identity primary key,
    project_id text not null references public.projects (id) on delete cascade,
    job_id text not null,
    stage text not null,
    iteration_number integer not null
        constraint enhancement_iterations_number_is_not_negative check (iteration_number >= 0),
    accepted boolean not null,
    model_version integer,
    enhance_engine text not null,
    strength double precision not null,
    learning_rate double precision not null,
    seconds double precision not null
        constraint enhancement_iterations_seconds_is_not_negative check (
            seconds >= 0 and seconds < 'Infinity'),
    note text not null default '',
    created_at timestamptz not null default clock_timestamp(),
    -- parameters, view_weights (view to trust), guards (sentences)
    detail jsonb not null default '{}'
        constraint enhancement_iterations_detail_is_an_object check (
            jsonb_typeof(detail) = 'object'),
    constraint enhancement_iterations_one_row_per_number unique (job_id, iteration_number),
    foreign key (job_id, stage) references public.job_stages (job_id, stage) on delete cascade,
    -- Deferred: a stage committed anew takes its models away before it brings them back.
    constraint enhancement_iterations_model_exists foreign key (project_id, model_version)
        references public.gaussian_splat_models (project_id, version)
        deferrable initially deferred
);
create index if not exists enhancement_iterations_of_project
    on public.enhancement_iterations (project_id, model_version);

create table if not exists public.refinement_metrics (
    id bigint generated always as identity primary key,
    project_id text not null references public.projects (id) on delete cascade,
    job_id text not null,
    stage text not null,
    iteration_number integer not null,
    view_agreement double precision not null
        constraint refinement_metrics_agreement_is_a_number check (view_agreement < 'NaN'),
    expected_likeness double precision
        constraint refinement_metrics_likeness_is_in_range
            check (expected_likeness between 0 and 1),
    psnr double precision not null
        constraint refinement_metrics_psnr_is_a_number check (psnr < 'NaN'),
    ssim double precision not null
        constraint refinement_metrics_ssim_is_in_range check (ssim between -1 and 1),
    lpips double precision
        constraint refinement_metrics_lpips_is_in_range check (lpips >= 0 and lpips < 'NaN'),
    created_at timestamptz not null default clock_timestamp(),
    -- as in gaussian_splat_models
    scores jsonb not null default '{}'
        constraint refinement_metrics_scores_is_an_object check (jsonb_typeof(scores) = 'object'),
    constraint refinement_metrics_one_row_per_number unique (job_id, iteration_number),
    foreign key (job_id, stage) references public.job_stages (job_id, stage) on delete cascade,
    foreign key (job_id, iteration_number)
        references public.enhancement_iterations (job_id, iteration_number) on delete cascade
);
create index if not exists refinement_metrics_of_project
    on public.refinement_metrics (project_id);

create table if not exists public.enhanced_views (
    id bigint generated always as identity primary key,
    project_id text not null references public.projects (id) on delete cascade,
    job_id text not null,
    stage text not null,
    iteration_number integer not null
        constraint enhanced_views_number_is_not_negative check (iteration_number >= 0),
    view_index integer not null
        constraint enhanced_views_view_index_is_not_negative check (view_index >= 0),
    image_path text not null
        constraint enhanced_views_image_path_is_set check (image_path <> ''),
    engine text not null,
    created_at timestamptz not null default clock_timestamp(),
    -- renders of the model before and after the round, and how far the target was trusted
    before_path text
        constraint enhanced_views_before_path_is_set check (before_path <> ''),
    after_path text
        constraint enhanced_views_after_path_is_set check (after_path <> ''),
    weight double precision
        constraint enhanced_views_weight_is_a_share check (weight between 0 and 1),
    constraint enhanced_views_one_row_per_view unique (job_id, iteration_number, view_index),
    foreign key (job_id, stage) references public.job_stages (job_id, stage) on delete cascade
);
create index if not exists enhanced_views_of_project on public.enhanced_views (project_id);

create table if not exists public.export_history (
    id bigint generated always as identity primary key,
    project_id text not null references public.projects (id) on delete cascade,
    job_id text not null,
    stage text not null,
    model_version integer not null,
    format text not null
        constraint export_history_format_is_a_name check (format ~ '^[a-z0-9]+(-[a-z0-9]+)*$'),
    optimize boolean not null,
    file_path text not null constraint export_history_file_path_is_set check (file_path <> ''),
    file_size_bytes bigint not null
        constraint export_history_file_size_is_not_negative check (file_size_bytes >= 0),
    seconds double precision not null
        constraint export_history_seconds_is_not_negative check (
            seconds >= 0 and seconds < 'Infinity'),
    created_at timestamptz not null default clock_timestamp(),
    -- canonical: equal for equal files
    options jsonb not null default '{}',
    contents jsonb not null default '{}',
    saved jsonb not null default '{}',
    notes jsonb not null default '[]',
    foreign key (job_id, stage) references public.job_stages (job_id, stage) on delete cascade,
    constraint export_history_model_exists foreign key (project_id, model_version)
        references public.gaussian_splat_models (project_id, version)
        deferrable initially deferred
);
create index if not exists export_history_of_project
    on public.export_history (project_id, model_version);
create index if not exists export_history_of_stage on public.export_history (job_id, stage);

-- ---------------------------------------------------------------------------------------------
-- edits

-- What somebody did to the views of a generated version: replace, strike, restore. An edit waits
-- until a generation that begins with the depth of that version has made its model; then it stays
-- as what was done.
create table if not exists public.view_edits (
    id bigint generated always as identity primary key,
    project_id text not null references public.projects (id) on delete cascade,
    version integer not null,
    view_index integer not null
        constraint view_edits_view_index_is_not_negative check (view_index >= 0),
    kind text not null
        constraint view_edits_kind_is_known check (kind in ('replace', 'strike', 'restore')),
    image_path text
        constraint view_edits_image_path_is_set check (image_path <> ''),
    sha256 text,
    -- who found the outline in a picture without alpha
    engine text not null default '',
    notes jsonb not null default '[]',
    -- of a view that is restored: the version that has it as the engine made it
    source_version integer,
    created_at timestamptz not null default clock_timestamp(),
    applied_by text references public.jobs (id) on delete set null,
    constraint view_edits_picture_iff_replaced check (
        (kind = 'replace') = (image_path is not null)
        and (image_path is null) = (sha256 is null)),
    constraint view_edits_source_iff_restored check (
        (kind = 'restore') = (source_version is not null)),
    constraint view_edits_version_exists foreign key (project_id, version)
        references public.gaussian_splat_models (project_id, version)
        deferrable initially deferred
);
create unique index if not exists view_edits_one_waits_per_view
    on public.view_edits (project_id, version, view_index) where applied_by is null;
create index if not exists view_edits_of_job on public.view_edits (applied_by);

-- ---------------------------------------------------------------------------------------------
-- pictures
create table if not exists public.model_previews (
    id bigint generated always as identity primary key,
    project_id text not null references public.projects (id) on delete cascade,
    job_id text not null,
    stage text not null,
    version integer not null,
    thumbnail_path text not null
        constraint model_previews_thumbnail_path_is_set check (thumbnail_path <> ''),
    turntable_path text not null
        constraint model_previews_turntable_path_is_set check (turntable_path <> ''),
    created_at timestamptz not null default clock_timestamp(),
    constraint model_previews_one_row_per_version unique (project_id, version),
    foreign key (job_id, stage) references public.job_stages (job_id, stage) on delete cascade,
    -- Deferred: a stage committed anew takes its models away before it brings them back.
    constraint model_previews_model_exists foreign key (project_id, version)
        references public.gaussian_splat_models (project_id, version)
        deferrable initially deferred
);
create index if not exists model_previews_of_stage on public.model_previews (job_id, stage);

-- The newest row of a project counts; older ones show older models.
create table if not exists public.contact_sheets (
    id bigint generated always as identity primary key,
    project_id text not null references public.projects (id) on delete cascade,
    job_id text not null,
    stage text not null,
    model_version integer not null,
    image_path text not null
        constraint contact_sheets_image_path_is_set check (image_path <> ''),
    created_at timestamptz not null default clock_timestamp(),
    foreign key (job_id, stage) references public.job_stages (job_id, stage) on delete cascade,
    constraint contact_sheets_model_exists foreign key (project_id, model_version)
        references public.gaussian_splat_models (project_id, version)
        deferrable initially deferred
);
create index if not exists contact_sheets_of_project on public.contact_sheets (project_id, id);
create index if not exists contact_sheets_of_stage on public.contact_sheets (job_id, stage);

-- ---------------------------------------------------------------------------------------------
-- deletions and messages

-- Projects that are to go. The mark outlives the rows, for attempts that lost their lease may still
-- write files; it goes when the files were deleted a while after the rows.
create table if not exists public.deletions (
    project_id text primary key,
    requested_at timestamptz not null default clock_timestamp(),
    purged_at timestamptz
);
create index if not exists deletions_oldest_first on public.deletions (requested_at);

-- Messages about ended jobs, written in the transaction that ends the job.
--
--   pending --claim--> pending, not due for a while --finish--> delivered | pending | given_up
create table if not exists public.webhooks (
    job_id text primary key references public.jobs (id) on delete cascade,
    url text not null,
    attempts integer not null default 0
        constraint webhooks_attempts_is_not_negative check (attempts >= 0),
    state text not null default 'pending'
        constraint webhooks_state_is_known check (state in ('pending', 'delivered', 'given_up')),
    next_at timestamptz not null default clock_timestamp(),
    last_error text,
    created_at timestamptz not null default clock_timestamp()
);
create index if not exists webhooks_due on public.webhooks (next_at) where state = 'pending';
create index if not exists webhooks_to_forget on public.webhooks (created_at)
    where state <> 'pending';

-- ---------------------------------------------------------------------------------------------
-- the folder of the files

-- The id in the marker file of the folder whose files the rows name, where files are in a folder:
-- one row, or none before the first start.
create table if not exists public.file_store (
    is_only boolean primary key default true constraint file_store_is_one_row check (is_only),
    id text not null constraint file_store_id_is_set check (id <> '')
);

-- ---------------------------------------------------------------------------------------------
-- updated_at
create or replace function public.touch_updated_at() returns trigger
language plpgsql set search_path = public, pg_temp as $$
begin
    new.updated_at := clock_timestamp();
    return new;
end
$$;
create or replace trigger projects_touch_updated_at before update on public.projects
    -- A key that is forgotten is no change of the project.
    for each row when (new.idempotency_key is not null or old.idempotency_key is null)
    execute function public.touch_updated_at();
create or replace trigger jobs_touch_updated_at before update on public.jobs
    for each row execute function public.touch_updated_at();

-- ---------------------------------------------------------------------------------------------
-- views, with the rights of who reads them
create or replace view public.project_summary with (security_invoker = true) as
select
    p.id,
    p.status,
    p.current_step,
    p.progress_percentage,
    p.error,
    (select count(distinct v.view_index) from public.multiview_generation v
      where v.project_id = p.id) as views,
    (select count(distinct d.view_index) from public.depth_maps d
      where d.project_id = p.id) as depth_maps,
    (select count(*) from public.gaussian_splat_models m
      where m.project_id = p.id) as model_versions,
    newest.version as newest_version,
    newest.model_path as newest_model_path,
    newest.splat_count,
    newest.view_agreement,
    newest.expected_likeness,
    (select count(*) from public.enhancement_iterations i
      where i.project_id = p.id and i.iteration_number > 0) as refinement_iterations,
    (select count(*) from public.export_history e where e.project_id = p.id) as exports,
    (select j.id from public.jobs j
      where j.project_id = p.id and j.state in ('queued', 'running')) as active_job_id,
    p.created_at,
    p.updated_at
from public.projects p
left join lateral (
    select m.version, m.model_path, m.splat_count, m.view_agreement, m.expected_likeness
      from public.gaussian_splat_models m
     where m.project_id = p.id
     order by m.version desc
     limit 1
) newest on true;

create or replace view public.refinement_progress with (security_invoker = true) as
select
    i.project_id,
    i.job_id,
    i.iteration_number,
    i.accepted,
    i.model_version,
    i.enhance_engine,
    i.strength,
    i.learning_rate,
    i.seconds,
    m.view_agreement,
    m.view_agreement
        - lag(m.view_agreement) over (partition by i.job_id order by i.iteration_number)
        as agreement_gain,
    m.expected_likeness,
    m.psnr,
    m.ssim,
    m.lpips,
    i.note,
    i.created_at
from public.enhancement_iterations i
join public.refinement_metrics m using (job_id, iteration_number);

-- ---------------------------------------------------------------------------------------------
-- what stands where
comment on table public.projects is
    'One object that was photographed, and where its newest job stands.';
comment on table public.project_photos is
    'Photos of projects, one row per file that was sent, also of those that were taken out again.';
comment on table public.jobs is
    'Work asked for: generate, refine, export. A running job is held by lease and fence.';
comment on table public.job_events is
    'What happened to a job: state changes, stage changes and commits, numbered without gaps.';
comment on table public.job_stages is 'Stages a job has committed; what a new attempt resumes from.';
comment on table public.multiview_generation is 'Synthesised views, one row per view.';
comment on table public.view_edits is
    'Views that somebody replaced, struck out or restored: what waits, and what was done.';
comment on table public.depth_maps is 'Depth of the synthesised views, one row per view.';
comment on table public.gaussian_splat_models is 'Versions of the splat model of a project.';
comment on table public.enhancement_iterations is 'Refinement iterations: what ran.';
comment on table public.refinement_metrics is 'Refinement iterations: what came out.';
comment on table public.enhanced_views is 'Enhanced target views of refinement iterations.';
comment on table public.export_history is 'Exported files.';
comment on table public.model_previews is
    'Thumbnail and turntable of model versions, one row per version.';
comment on table public.contact_sheets is
    'Pictures of whole projects with renders of one model version.';
comment on table public.deletions is 'Projects that are to go, and when their rows went.';
comment on table public.webhooks is 'Messages about ended jobs: who is told, and how it went.';
comment on table public.file_store is
    'The folder whose files the rows name, where files are in a folder.';
comment on view public.project_summary is 'Projects with counts and their newest model.';
comment on view public.refinement_progress is
    'Refinement iterations with their scores and the gain over the iteration before.';

-- =============================================================================================
-- FUNCTIONS
--
-- Each atomic step is one function; every store calls these and nothing else. A function takes named
-- scalars or JSON and returns JSON, so that asyncpg and PostgREST call it alike. Server time decides
-- leases; no client clock is ever compared.
--
-- Errors (serve_app/stores/records.py maps them to those of the application):
--   GL400 invalid argument      GL404 not found           GL409 conflict
--   GL410 stale attempt         GL422 idempotency key used with another request
--   GL423 project busy (detail: id of the job)            GL425 not generated yet
--   GL503 too many queued jobs
--
-- Locks, in this order: the project's name (lock_project_v1: submit, upload, delete, purge,
-- expire), its mark, job, project. Who holds a job's lock never waits for a name.

-- ---------------------------------------------------------------------------------------------
-- documents: rows as the ports name them

-- With the files of its first photo.
create or replace function public.project_document_v1(p_project public.projects) returns jsonb
language sql stable set search_path = public, pg_temp as $$
    select to_jsonb(p_project)
           - array['idempotency_key', 'fingerprint', 'client']
           || jsonb_build_object(
               'original_path', f.original_path, 'processed_path', f.processed_path,
               'background_engine', f.background_engine)
      from project_photos f where f.project_id = p_project.id and f.position = 0
$$;

create or replace function public.photo_document_v1(p_photo public.project_photos) returns jsonb
language sql stable set search_path = public, pg_temp as $$
    select to_jsonb(p_photo)
           - array['project_id', 'state', 'idempotency_key', 'fingerprint', 'client']
$$;

-- The listed ones of a project, the first one first.
create or replace function public.photos_document_v1(p_project_id text) returns jsonb
language sql stable set search_path = public, pg_temp as $$
    select coalesce(jsonb_agg(photo_document_v1(f) order by f.position), '[]')
      from project_photos f where f.project_id = p_project_id and f.state = 'listed'
$$;

create or replace function public.view_edit_document_v1(p_edit public.view_edits) returns jsonb
language sql stable set search_path = public, pg_temp as $$
    select to_jsonb(p_edit) - 'project_id'
$$;

-- Queued jobs in the order in which claims will take them. Begun jobs go first. Then clients take
-- turns: a client's n-th waiting job comes in round n + what it has under way. In a round the client
-- that was served the longest time ago goes first; one that had its turn in the round before
-- (turn > 1) was served later than all that had not, and in that round's order.
create or replace function public.queue_order_v1() returns table (job_id text, place bigint)
language sql stable set search_path = public, pg_temp as $$
    with waiting as (
        select j.id, j.client, j.queue_number, j.started_at is not null as begun,
               row_number() over (
                   partition by j.client, j.started_at is not null order by j.queue_number) as turn
          from jobs j where j.state = 'queued'
    ), clients as (
        select j.client, count(j.started_at) as under_way,
               min(j.queue_number) filter (where j.started_at is null) as first_number,
               (select max(s.started_at) from jobs s where s.client = j.client) as served_at
          from jobs j where j.state in ('queued', 'running') group by j.client
    )
    select w.id, row_number() over (order by
               w.begun desc, case when w.begun then w.queue_number end,
               c.under_way + w.turn, w.turn, c.served_at nulls first, c.first_number)
      from waiting w join clients c on c.client = w.client
$$;

-- Peak memory by process, of a stage's detail: the driver's and the model deployments'.
create or replace function public.stage_memory_v1(p_detail jsonb) returns jsonb
language sql immutable parallel safe set search_path = public, pg_temp as $$
    select coalesce(jsonb_object_agg(m.key, m.value), '{}')
      from jsonb_each(case
               when jsonb_typeof(p_detail -> 'replica_peak_memory_bytes') = 'object'
                   then p_detail -> 'replica_peak_memory_bytes'
                        || jsonb_build_object('Driver', p_detail -> 'peak_memory_bytes')
               else jsonb_build_object('Driver', p_detail -> 'peak_memory_bytes') end) m
     where jsonb_typeof(m.value) = 'number'
$$;

-- Mean seconds per job and stage, of the newest jobs of a kind and shape that succeeded; numbered
-- stages of one job count together.
create or replace function public.expected_seconds_v1(p_kind text, p_shape text) returns jsonb
language sql stable set search_path = public, pg_temp as $$
    with alike as (
        select id from jobs
         where state = 'succeeded' and kind = p_kind and shape = p_shape
         order by finished_at desc limit 20
    )
    select coalesce(jsonb_object_agg(t.name, t.seconds / (select count(*) from alike)), '{}')
      from (select regexp_replace(s.stage, '-v?[0-9]+$', '') as name, sum(s.seconds) as seconds
              from job_stages s join alike a on a.id = s.job_id group by 1) t
$$;

create or replace function public.job_document_v1(p_job public.jobs) returns jsonb
language sql stable set search_path = public, pg_temp as $$
    select jsonb_build_object(
        'id', p_job.id,
        'number', p_job.queue_number,
        'project_id', p_job.project_id,
        'kind', p_job.kind,
        'state', p_job.state,
        'options', p_job.options,
        'stage', p_job.stage,
        'step', p_job.step,
        'progress', p_job.progress,
        'attempt', p_job.attempt,
        'max_attempts', p_job.max_attempts,
        'fence', p_job.fence,
        'cancel_requested', p_job.cancel_requested,
        'photos', p_job.photos,
        'timings', (
            select coalesce(jsonb_object_agg(s.stage, s.seconds), '{}')
              from job_stages s where s.job_id = p_job.id),
        'memory', (
            select coalesce(jsonb_object_agg(m.stage, m.memory), '{}')
              from (select s.stage, stage_memory_v1(s.detail) as memory
                      from job_stages s where s.job_id = p_job.id) m
             where m.memory <> '{}'),
        'expected', case when p_job.state in ('queued', 'running')
            then expected_seconds_v1(p_job.kind, p_job.shape) else '{}' end,
        'error', p_job.error,
        'last_error', p_job.last_error,
        'result', p_job.result,
        'queue_position', case when p_job.state = 'queued' then (
            select o.place from queue_order_v1() o where o.job_id = p_job.id) end,
        'ordinal', (
            select count(*) from jobs o
             where o.project_id = p_job.project_id and o.kind = p_job.kind
               and o.queue_number <= p_job.queue_number),
        'created_at', p_job.created_at,
        'step_started_at', p_job.step_started_at,
        'started_at', p_job.started_at,
        'finished_at', p_job.finished_at,
        -- what the moments above are to be compared with
        'read_at', statement_timestamp())
$$;

-- Status word of a project whose job is in a stage; a stage nobody knows keeps the kind's word.
create or replace function public.stage_status_v1(p_kind text, p_stage text) returns text
language sql immutable parallel safe set search_path = public, pg_temp as $$
    select case
        when p_kind = 'export' then 'exporting'
        when p_kind = 'refine' and p_stage = 'enhance' then 'enhancing'
        when p_kind = 'refine' then 'refining'
        when p_stage = 'depth' then 'depth_estimating'
        when p_stage in ('generator', 'photos', 'splats', 'previews', 'contact-sheet')
            then 'reconstructing'
        else 'multiview_generating'
    end
$$;

-- ---------------------------------------------------------------------------------------------
-- parts of the steps below

create or replace function public.check_version_v1(p_project_id text, p_version integer)
returns void
language plpgsql stable set search_path = public, pg_temp as $$
begin
    if not exists (select 1 from gaussian_splat_models
                    where project_id = p_project_id and version = p_version) then
        raise exception using errcode = 'GL404', message = format(
            'Project %s has no model version %s: %s.', p_project_id, p_version, coalesce(
                'it has ' || (select string_agg(version::text, ', ' order by version)
                                from gaussian_splat_models where project_id = p_project_id),
                'it has none yet, generate one first'));
    end if;
end
$$;

create or replace function public.check_lease_v1(p_lease_s double precision) returns void
language plpgsql immutable set search_path = public, pg_temp as $$
begin
    if p_lease_s is null or not (p_lease_s > 0 and p_lease_s <= 86400) then
        raise exception using errcode = 'GL400',
            message = format('lease_s must be above 0 and at most 86400, not %s.', p_lease_s);
    end if;
end
$$;

create or replace function public.check_limit_v1(p_limit integer) returns void
language plpgsql immutable set search_path = public, pg_temp as $$
begin
    if p_limit is null or p_limit not between 1 and 10000 then
        raise exception using errcode = 'GL400',
            message = format('limit must be 1 to 10000, not %s.', p_limit);
    end if;
end
$$;

-- Before `now` by so many seconds, or after it by so many when they are negative.
create or replace function public.ago_v1(p_seconds double precision) returns timestamptz
language plpgsql volatile set search_path = public, pg_temp as $$
begin
    if p_seconds is null or not (abs(p_seconds) <= 1e10) then
        raise exception using errcode = 'GL400',
            message = format('%s is not a number of seconds.', p_seconds);
    end if;
    return clock_timestamp() - make_interval(secs => p_seconds);
end
$$;

create or replace function public.project_name_key_v1(p_project_id text) returns bigint
language sql immutable parallel safe set search_path = public, pg_temp as $$
    select hashtextextended('glimpse3d project ' || p_project_id, 0)
$$;

-- Until the end of the transaction: nobody else submits to, finishes, marks or purges the project.
-- Rows do not do: the mark must be seen before a job is, and a job is locked before its project.
create or replace function public.lock_project_v1(p_project_id text) returns void
language plpgsql set search_path = public, pg_temp as $$
begin
    perform pg_advisory_xact_lock(project_name_key_v1(p_project_id));
end
$$;

-- The same, of a project that is uploaded, stays, and has no job queued or running.
create or replace function public.lock_idle_project_v1(p_project_id text) returns void
language plpgsql set search_path = public, pg_temp as $$
declare
    v_status text;
    v_busy text;
begin
    perform lock_project_v1(p_project_id);
    select status into v_status from projects where id = p_project_id for no key update;
    if not found or is_marked_v1(p_project_id) then
        raise exception using errcode = 'GL404',
            message = format('There is no project %s.', p_project_id);
    end if;
    if v_status = 'uploading' then
        raise exception using errcode = 'GL409',
            message = format('Project %s is not uploaded yet.', p_project_id);
    end if;
    select id into v_busy from jobs
     where project_id = p_project_id and state in ('queued', 'running');
    if found then
        raise exception using errcode = 'GL423', detail = v_busy, message = format(
            'Project %s is busy with job %s.', p_project_id, v_busy);
    end if;
end
$$;

create or replace function public.is_marked_v1(p_project_id text) returns boolean
language sql stable set search_path = public, pg_temp as $$
    select exists (select 1 from deletions where project_id = p_project_id)
$$;

-- Whether a project without a queued or running job may go: nothing has happened since then.
create or replace function public.is_forgotten_v1(p_project_id text, p_since timestamptz)
returns boolean
language sql stable set search_path = public, pg_temp as $$
    select not is_marked_v1(p_project_id) and not exists (
        select 1 from jobs j where j.project_id = p_project_id
           and (j.finished_at is null or j.finished_at > p_since))
       and not exists (
        select 1 from project_photos f where f.project_id = p_project_id and f.created_at > p_since)
$$;

-- The caller holds the project's name.
create or replace function public.mark_project_v1(p_project_id text) returns void
language plpgsql set search_path = public, pg_temp as $$
begin
    insert into deletions (project_id) values (p_project_id) on conflict do nothing;
    -- Whoever uploads with the key again wants a project that stays.
    update projects set idempotency_key = null
     where id = p_project_id and idempotency_key is not null;
end
$$;

-- The caller holds the lock on the job.
create or replace function public.add_job_event_v1(p_job_id text, p_kind text, p_data jsonb)
returns void
language plpgsql set search_path = public, pg_temp as $$
declare
    v_seq bigint;
    v_project_id text;
begin
    update jobs
       set last_event = last_event + 1,
           told_progress = greatest(
               told_progress, (p_data ->> 'progress')::double precision),
           -- Here and not in each caller: a stage begins, or its next part after a commit.
           step_started_at = case when p_kind in ('stage', 'commit')
               then clock_timestamp() else step_started_at end
     where id = p_job_id
    returning last_event, project_id into v_seq, v_project_id;
    insert into job_events (job_id, seq, kind, data) values (p_job_id, v_seq, p_kind, p_data);
    -- Wakes who listens, after the commit; the payload is the id and nothing more.
    perform pg_notify('glimpse3d_jobs', p_job_id);
    perform pg_notify('glimpse3d_projects', v_project_id);
end
$$;

create or replace function public.add_job_state_event_v1(p_job public.jobs) returns void
language plpgsql set search_path = public, pg_temp as $$
begin
    perform add_job_event_v1(p_job.id, 'state', jsonb_strip_nulls(jsonb_build_object(
        'state', p_job.state,
        'stage', p_job.stage,
        'progress', p_job.progress,
        'attempt', p_job.attempt,
        'error', p_job.error)));
end
$$;

create or replace function public.show_job_on_project_v1(p_job public.jobs) returns void
language plpgsql set search_path = public, pg_temp as $$
declare
    v_status text := case p_job.state
        when 'queued' then 'ready'
        when 'running' then stage_status_v1(p_job.kind, p_job.stage)
        when 'succeeded' then 'completed'
        else p_job.state end;
    v_step text := case
        when p_job.state = 'queued' then 'queued'
        when p_job.state = 'succeeded' then 'completed'
        when p_job.stage = '' then 'starting'
        else p_job.stage end;
    v_error text := case when p_job.state = 'failed' then p_job.error ->> 'detail' end;
begin
    update projects
       set status = v_status,
           current_step = v_step,
           progress_percentage = 100 * p_job.progress,
           error = v_error
     where id = p_job.project_id
       and (status, current_step, progress_percentage, error)
           is distinct from (v_status, v_step, 100 * p_job.progress, v_error);
end
$$;

-- queued | running -> succeeded | failed | cancelled
create or replace function public.end_job_v1(
    p_job_id text, p_state text, p_result jsonb, p_error jsonb)
returns public.jobs
language plpgsql set search_path = public, pg_temp as $$
declare
    v_job jobs;
begin
    update jobs
       set state = p_state,
           step = '',
           progress = case when p_state = 'succeeded' then 1 else progress end,
           result = case when p_state = 'succeeded' then coalesce(p_result, '{}') end,
           error = p_error,
           worker = null,
           lease_expires_at = null,
           not_before = null,
           finished_at = clock_timestamp()
     where id = p_job_id
    returning * into v_job;
    if v_job.webhook_url is not null then
        insert into webhooks (job_id, url) values (v_job.id, v_job.webhook_url)
        on conflict (job_id) do nothing;
    end if;
    perform add_job_state_event_v1(v_job);
    perform show_job_on_project_v1(v_job);
    -- Who waits for the end alone is not woken by every percent.
    perform pg_notify('glimpse3d_ended', p_job_id);
    return v_job;
end
$$;

-- Whether the claim that a running job has is a false start, if it ends now.
create or replace function public.is_false_start_v1(p_job public.jobs) returns boolean
language sql immutable parallel safe set search_path = public, pg_temp as $$
    -- 20 releases take a quarter of an hour, 20 leases as long as they are: then each is an attempt
    -- like any other.
    select p_job.stage in ('', 'start') and p_job.false_starts < 20
$$;

-- The job, locked until the end of the transaction, if the attempt may still write.
create or replace function public.lock_attempt_v1(p_job_id text, p_fence bigint)
returns public.jobs
language plpgsql set search_path = public, pg_temp as $$
declare
    v_job jobs;
begin
    select * into v_job from jobs where id = p_job_id for update;
    if not found then
        raise exception using errcode = 'GL404', message = format('There is no job %s.', p_job_id);
    end if;
    if v_job.state <> 'running' or v_job.fence <> p_fence then
        raise exception using errcode = 'GL410', message = format(
            'The attempt with fence %s does not hold job %s: it is %s, its fence is %s.',
            p_fence, p_job_id, v_job.state, v_job.fence);
    end if;
    return v_job;
end
$$;

-- ---------------------------------------------------------------------------------------------
-- projects

-- Of databases made before the first release.
drop function if exists public.create_project_v1(text, text, text, text);
drop function if exists public.add_project_v1(text, text, text, text, text);

drop function if exists public.begin_upload_v1(text, text, text, text);

-- -> uploading. p_photos: as of begin_photo_v1, the first one first.
create or replace function public.begin_upload_v1(p_project_id text, p_photos jsonb)
returns jsonb
language plpgsql set search_path = public, pg_temp as $$
declare
    v_project projects;
begin
    perform lock_project_v1(p_project_id);
    -- The files of a project of this name are still to be deleted.
    if not is_marked_v1(p_project_id) then
        insert into projects (id, status) values (p_project_id, 'uploading')
        on conflict (id) do nothing
        returning * into v_project;
    end if;
    if v_project.id is null then
        raise exception using errcode = 'GL409',
            message = format('There is a project %s already.', p_project_id);
    end if;
    if coalesce(jsonb_array_length(p_photos), 0) not between 1 and 8 then
        raise exception using errcode = 'GL400', message = 'A project has 1 to 8 photos.';
    end if;
    insert into project_photos (
        id, project_id, state, position, original_path, processed_path, background_engine, sha256,
        side, azimuth_deg, elevation_deg, notes)
    select r.id, p_project_id, 'listed', a.place - 1, r.original_path, r.processed_path,
           r.background_engine, coalesce(r.sha256, ''), r.side, r.azimuth_deg, r.elevation_deg,
           coalesce(r.notes, '[]')
      from jsonb_array_elements(p_photos) with ordinality a (photo, place)
     cross join lateral jsonb_to_record(a.photo) as r (
        id text, original_path text, processed_path text, background_engine text, sha256 text,
        side text, azimuth_deg double precision, elevation_deg double precision, notes jsonb);
    return project_document_v1(v_project);
end
$$;

-- uploading -> ready; an upload that did not hear the answer may ask again. When the key is taken,
-- the project is marked for deletion, so a mismatch is an answer and not an error, which would take
-- the mark back: {project, created, photos} or {mismatch}, a sentence.
drop function if exists public.finish_upload_v1(text, text, text);  -- before the first release
create or replace function public.finish_upload_v1(
    p_project_id text, p_idempotency_key text default null, p_fingerprint text default '',
    p_client text default '')
returns jsonb
language plpgsql set search_path = public, pg_temp as $$
declare
    v_project projects;
    v_other projects;
begin
    perform lock_project_v1(p_project_id);
    select * into v_project from projects where id = p_project_id for update;
    if not found or is_marked_v1(p_project_id) then
        raise exception using errcode = 'GL404',
            message = format('There is no upload %s any more.', p_project_id);
    end if;
    if v_project.status <> 'uploading' then
        if (v_project.client, v_project.idempotency_key)
                is distinct from (p_client, p_idempotency_key) then
            raise exception using errcode = 'GL409',
                message = format('Project %s is uploaded already.', p_project_id);
        end if;
        return jsonb_build_object(
            'project', project_document_v1(v_project), 'created', true,
            'photos', photos_document_v1(p_project_id));
    end if;
    loop
        begin
            -- Waits for another upload that is finishing with this key.
            update projects
               set status = 'ready', idempotency_key = p_idempotency_key,
                   fingerprint = p_fingerprint, client = p_client
             where id = p_project_id
            returning * into v_project;
            return jsonb_build_object(
            'project', project_document_v1(v_project), 'created', true,
            'photos', photos_document_v1(p_project_id));
        exception when unique_violation then
            null;
        end;
        select * into v_other from projects
         where client = p_client and idempotency_key = p_idempotency_key;
        exit when found;  -- else it was marked for deletion in between, and the key is free
    end loop;
    perform mark_project_v1(p_project_id);
    if v_other.fingerprint is distinct from p_fingerprint then
        return jsonb_build_object('mismatch', format(
            'Idempotency key %s belongs to another request.', p_idempotency_key));
    end if;
    return jsonb_build_object(
        'project', project_document_v1(v_other), 'created', false,
        'photos', photos_document_v1(v_other.id));
end
$$;

-- Null when the client has no such key. Only ready projects have one, and only until they are marked.
drop function if exists public.find_upload_v1(text, text);  -- before the first release
create or replace function public.find_upload_v1(
    p_idempotency_key text, p_fingerprint text, p_client text default '')
returns jsonb
language plpgsql stable set search_path = public, pg_temp as $$
declare
    v_project projects;
begin
    select * into v_project from projects
     where client = p_client and idempotency_key = p_idempotency_key;
    if not found then
        return null;
    end if;
    if v_project.fingerprint is distinct from p_fingerprint then
        raise exception using errcode = 'GL422', message = format(
            'Idempotency key %s belongs to another request.', p_idempotency_key);
    end if;
    return project_document_v1(v_project);
end
$$;

create or replace function public.get_project_v1(p_project_id text) returns jsonb
language plpgsql stable set search_path = public, pg_temp as $$
declare
    v_project projects;
begin
    select * into v_project from projects where id = p_project_id;
    if not found then
        raise exception using errcode = 'GL404',
            message = format('There is no project %s.', p_project_id);
    end if;
    return project_document_v1(v_project);
end
$$;

-- The generated version that a version comes from: itself, or the one that its refinements began
-- with. Null where there is none.
create or replace function public.generation_of_v1(p_project_id text, p_version integer)
returns integer
language sql stable set search_path = public, pg_temp as $$
    with recursive line as (
        select m.version, m.parent, j.kind
          from gaussian_splat_models m join jobs j on j.id = m.job_id
         where m.project_id = p_project_id and m.version = p_version
        union all
        select m.version, m.parent, j.kind
          from line l
          join gaussian_splat_models m on m.project_id = p_project_id and m.version = l.parent
          join jobs j on j.id = m.job_id
         where l.kind <> 'generate'
    )
    select version from line where kind = 'generate'
$$;

-- A project and all its rows in one snapshot and one round trip: what /status reads.
-- Views and depths: of the generate job under way, else of the one that the current version comes
-- from, else of the one that made the newest generated model, else of the newest, so that a failed
-- second run does not hide what is in use.
create or replace function public.project_detail_v1(p_project_id text) returns jsonb
language plpgsql stable set search_path = public, pg_temp as $$
declare
    v_hidden constant text[] := array['id', 'project_id', 'job_id', 'stage', 'created_at'];
    v_detail jsonb;
begin
    select jsonb_build_object(
        'project', project_document_v1(p),
        'photos', photos_document_v1(p.id),
        'generated_photos', coalesce(generated.photos, '[]'),
        'registrations', coalesce((
            select s.detail -> 'registrations' from job_stages s
             where s.job_id = generated.id and s.detail ? 'registrations'
             order by s.ordinal desc limit 1), '[]'),
        'views', (
            select coalesce(jsonb_agg(to_jsonb(v) - v_hidden order by v.view_index), '[]')
              from multiview_generation v where v.job_id = generated.id),
        'depths', (
            select coalesce(jsonb_agg(to_jsonb(d) - v_hidden order by d.view_index), '[]')
              from depth_maps d where d.job_id = generated.id),
        'models', (
            select coalesce(jsonb_agg(to_jsonb(m) - v_hidden order by m.version), '[]')
              from gaussian_splat_models m where m.project_id = p.id),
        'made_by', (
            select coalesce(jsonb_object_agg(m.version, m.job_id), '{}')
              from gaussian_splat_models m where m.project_id = p.id),
        'iterations', (
            select coalesce(jsonb_agg(
                       (to_jsonb(i) || to_jsonb(r)) - v_hidden order by i.iteration_number), '[]')
              from enhancement_iterations i
              join refinement_metrics r using (job_id, iteration_number)
             where i.job_id = refined.id),
        'exports', (
            select coalesce(jsonb_agg(to_jsonb(e) - v_hidden order by e.id), '[]')
              from export_history e where e.project_id = p.id),
        'previews', (
            select coalesce(jsonb_agg(to_jsonb(w) - v_hidden order by w.version), '[]')
              from model_previews w where w.project_id = p.id),
        'edits', (
            select coalesce(jsonb_agg(view_edit_document_v1(d) order by d.id), '[]')
              from view_edits d where d.project_id = p.id),
        'contact_sheet', (
            select to_jsonb(c) - v_hidden
              from contact_sheets c
             where c.project_id = p.id and c.model_version = p.current_version
             order by c.id desc limit 1),
        'job', (
            select job_document_v1(j) from jobs j where j.project_id = p.id
             order by j.state in ('queued', 'running') desc, j.queue_number desc limit 1))
      into v_detail
      from projects p
      left join lateral (
            select j.id, j.photos from jobs j
             where j.project_id = p.id and j.kind = 'generate'
             order by j.state in ('queued', 'running') desc,
                      coalesce(j.id = (
                          select m.job_id from gaussian_splat_models m
                           where m.project_id = p.id
                             and m.version = generation_of_v1(p.id, p.current_version)), false) desc,
                      (select max(m.version) from gaussian_splat_models m where m.job_id = j.id)
                          desc nulls last,
                      j.queue_number desc
             limit 1) generated on true
      left join lateral (
            select j.id from jobs j
             where j.project_id = p.id and j.kind = 'refine'
             order by j.queue_number desc
             limit 1) refined on true
     where p.id = p_project_id;
    if v_detail is null then
        raise exception using errcode = 'GL404',
            message = format('There is no project %s.', p_project_id);
    end if;
    return v_detail;
end
$$;

-- {projects, more}. p_after_at is text in ISO format, which every caller can send.
create or replace function public.list_projects_v1(
    p_status text default null, p_after_at text default null, p_after_id text default null,
    p_limit integer default 20)
returns jsonb
language plpgsql stable set search_path = public, pg_temp as $$
declare
    v_projects jsonb;
begin
    perform check_limit_v1(p_limit);
    select coalesce(jsonb_agg(
               project_document_v1(p.project) order by p.created_at desc, p.id desc), '[]')
      into v_projects
      from (select c as project, c.created_at, c.id from projects c
             where c.status <> 'uploading' and not is_marked_v1(c.id)
               and (p_status is null or c.status = p_status)
               and (p_after_at is null
                    or (c.created_at, c.id) < (p_after_at::timestamptz, p_after_id))
             order by c.created_at desc, c.id desc limit p_limit + 1) p;
    return jsonb_build_object(
        'projects', case when jsonb_array_length(v_projects) > p_limit
            then v_projects - p_limit else v_projects end,
        'more', jsonb_array_length(v_projects) > p_limit);
end
$$;

-- The running job, which was asked to stop, or null.
create or replace function public.delete_project_v1(p_project_id text) returns jsonb
language plpgsql set search_path = public, pg_temp as $$
declare
    v_job_id text;
    v_job jsonb;
begin
    perform lock_project_v1(p_project_id);
    perform 1 from projects where id = p_project_id;
    if not found then
        if not is_marked_v1(p_project_id) then
            raise exception using errcode = 'GL404',
                message = format('There is no project %s.', p_project_id);
        end if;
        return null;
    end if;
    select id into v_job_id from jobs
     where project_id = p_project_id and state in ('queued', 'running');
    if found then
        v_job := cancel_job_v1(v_job_id);
    end if;
    perform mark_project_v1(p_project_id);
    return case when v_job ->> 'state' = 'running' then v_job end;
end
$$;

create or replace function public.purge_project_v1(p_project_id text) returns boolean
language plpgsql set search_path = public, pg_temp as $$
begin
    perform lock_project_v1(p_project_id);
    perform 1 from deletions where project_id = p_project_id for update;
    if not found then
        if exists (select 1 from projects where id = p_project_id) then
            raise exception using errcode = 'GL409',
                message = format('Project %s is not marked for deletion.', p_project_id);
        end if;
        return true;
    end if;
    perform 1 from jobs where project_id = p_project_id order by id for update;
    if exists (select 1 from jobs where project_id = p_project_id and state = 'running'
                  and lease_expires_at > clock_timestamp()) then
        return false;
    end if;
    perform pg_notify('glimpse3d_jobs', id), pg_notify('glimpse3d_ended', id)
       from jobs where project_id = p_project_id;
    delete from projects where id = p_project_id;
    update deletions set purged_at = coalesce(purged_at, clock_timestamp())
     where project_id = p_project_id;
    perform pg_notify('glimpse3d_projects', p_project_id);
    return true;
end
$$;

create or replace function public.due_deletions_v1(
    p_grace_s double precision, p_limit integer default 20)
returns jsonb
language plpgsql stable set search_path = public, pg_temp as $$
declare
    v_before constant timestamptz := ago_v1(p_grace_s);
begin
    perform check_limit_v1(p_limit);
    return (
        select coalesce(jsonb_agg(d.project_id order by d.requested_at, d.project_id), '[]')
          from (select * from deletions
                 where purged_at is null or purged_at <= v_before
                 order by requested_at, project_id limit p_limit) d);
end
$$;

-- Whether the mark is gone.
create or replace function public.end_deletion_v1(p_project_id text, p_grace_s double precision)
returns boolean
language plpgsql set search_path = public, pg_temp as $$
begin
    delete from deletions where project_id = p_project_id and purged_at <= ago_v1(p_grace_s);
    return not is_marked_v1(p_project_id);
end
$$;

-- any but uploading -> marked for deletion
create or replace function public.expire_projects_v1(
    p_ttl_s double precision, p_limit integer default 20)
returns jsonb
language plpgsql set search_path = public, pg_temp as $$
declare
    v_since constant timestamptz := ago_v1(p_ttl_s);
    v_id text;
    v_ids jsonb := '[]'::jsonb;
begin
    perform check_limit_v1(p_limit);
    for v_id in
        select p.id from projects p
         where p.status <> 'uploading' and p.created_at <= v_since
           and is_forgotten_v1(p.id, v_since)
         order by p.created_at, p.id limit p_limit
    loop
        -- Somebody who has the name is doing something with the project; a job may be new.
        if pg_try_advisory_xact_lock(project_name_key_v1(v_id))
                and is_forgotten_v1(v_id, v_since) then
            perform mark_project_v1(v_id);
            v_ids := v_ids || to_jsonb(v_id);
        end if;
    end loop;
    return v_ids;
end
$$;

-- uploading -> marked for deletion
create or replace function public.expire_uploads_v1(
    p_age_s double precision, p_limit integer default 20)
returns jsonb
language plpgsql set search_path = public, pg_temp as $$
declare
    v_since constant timestamptz := ago_v1(p_age_s);
    v_id text;
    v_ids jsonb := '[]'::jsonb;
begin
    perform check_limit_v1(p_limit);
    for v_id in
        select p.id from projects p
         where p.status = 'uploading' and p.created_at <= v_since and not is_marked_v1(p.id)
         order by p.created_at, p.id limit p_limit
    loop
        if pg_try_advisory_xact_lock(project_name_key_v1(v_id)) and not is_marked_v1(v_id)
                and exists (select 1 from projects where id = v_id and status = 'uploading') then
            perform mark_project_v1(v_id);
            v_ids := v_ids || to_jsonb(v_id);
        end if;
    end loop;
    return v_ids;
end
$$;

-- Another version is the current one; nothing is removed.
create or replace function public.restore_version_v1(p_project_id text, p_version integer)
returns jsonb
language plpgsql set search_path = public, pg_temp as $$
declare
    v_project projects;
begin
    perform lock_idle_project_v1(p_project_id);
    perform check_version_v1(p_project_id, p_version);
    update projects set current_version = p_version where id = p_project_id
    returning * into v_project;
    return project_document_v1(v_project);
end
$$;

-- -> waiting. p_edit: {version, view_index, kind, image_path, sha256, engine, notes,
-- source_version, seen}, of which the last six may be left out. The edit takes the place of the one
-- that waits for the same view: {edit, replaced}, where `replaced` is that one or null. Refused when
-- others wait for the version by now than `seen` names, a list of their ids in order.
create or replace function public.put_view_edit_v1(p_project_id text, p_edit jsonb)
returns jsonb
language plpgsql set search_path = public, pg_temp as $$
declare
    v_replaced jsonb;
    v_edit view_edits;
begin
    perform lock_idle_project_v1(p_project_id);
    if jsonb_typeof(p_edit -> 'seen') = 'array' and p_edit -> 'seen' <> (
            select coalesce(jsonb_agg(d.id order by d.id), '[]') from view_edits d
             where d.project_id = p_project_id and d.version = (p_edit ->> 'version')::integer
               and d.applied_by is null) then
        raise exception using errcode = 'GL409', message = format(
            'The edits of project %s have been changed meanwhile.', p_project_id);
    end if;
    v_replaced := take_view_edit_v1(
        p_project_id, (p_edit ->> 'version')::integer, (p_edit ->> 'view_index')::integer);
    perform check_version_v1(p_project_id, (p_edit ->> 'version')::integer);
    insert into view_edits (
        project_id, version, view_index, kind, image_path, sha256, engine, notes, source_version)
    select p_project_id, r.version, r.view_index, r.kind, r.image_path, r.sha256,
           coalesce(r.engine, ''), coalesce(r.notes, '[]'), r.source_version
      from jsonb_to_record(p_edit) as r (
        version integer, view_index integer, kind text, image_path text, sha256 text, engine text,
        notes jsonb, source_version integer)
    returning * into v_edit;
    return jsonb_build_object('edit', view_edit_document_v1(v_edit), 'replaced', v_replaced);
end
$$;

-- waiting -> gone. The edit, or null where none waits.
create or replace function public.take_view_edit_v1(
    p_project_id text, p_version integer, p_view_index integer)
returns jsonb
language plpgsql set search_path = public, pg_temp as $$
declare
    v_edit view_edits;
begin
    perform lock_idle_project_v1(p_project_id);
    delete from view_edits
     where project_id = p_project_id and version = p_version and view_index = p_view_index
       and applied_by is null
    returning * into v_edit;
    return case when v_edit.id is not null then view_edit_document_v1(v_edit) end;
end
$$;

-- ---------------------------------------------------------------------------------------------
-- photos

-- -> arriving, before its files are stored. p_photo: {id, original_path, processed_path,
-- background_engine, sha256, notes}; the last two may be left out.
create or replace function public.begin_photo_v1(p_project_id text, p_photo jsonb)
returns boolean
language plpgsql set search_path = public, pg_temp as $$
declare
    v_status text;
begin
    perform lock_project_v1(p_project_id);
    select status into v_status from projects where id = p_project_id;
    if not found or is_marked_v1(p_project_id) then
        raise exception using errcode = 'GL404',
            message = format('There is no project %s.', p_project_id);
    end if;
    if v_status = 'uploading' then
        raise exception using errcode = 'GL409',
            message = format('Project %s is not uploaded yet.', p_project_id);
    end if;
    insert into project_photos (
        id, project_id, original_path, processed_path, background_engine, sha256, notes)
    select r.id, p_project_id, r.original_path, r.processed_path, r.background_engine,
           coalesce(r.sha256, ''), coalesce(r.notes, '[]')
      from jsonb_to_record(p_photo) as r (
        id text, original_path text, processed_path text, background_engine text, sha256 text,
        notes jsonb)
    on conflict (id) do nothing;
    return true;
end
$$;

-- The id of the photo that the client added with the key, or null.
create or replace function public.find_photo_v1(
    p_idempotency_key text, p_fingerprint text, p_client text default '')
returns text
language plpgsql stable set search_path = public, pg_temp as $$
declare
    v_photo project_photos;
begin
    select * into v_photo from project_photos
     where client = p_client and idempotency_key = p_idempotency_key;
    if found and v_photo.fingerprint is distinct from p_fingerprint then
        raise exception using errcode = 'GL422', message = format(
            'Idempotency key %s belongs to another request.', p_idempotency_key);
    end if;
    return v_photo.id;
end
$$;

-- The photos of a project are these, in this order; those that were and are not among them go, or
-- are kept for the jobs that have worked with them. p_photos: a list of {id, side, azimuth_deg,
-- elevation_deg}. Refused when the photos are not those of p_revision any more.
-- p_added: the one that a request with a key has brought.
create or replace function public.arrange_photos_v1(
    p_project_id text, p_revision bigint, p_photos jsonb, p_added text default null,
    p_idempotency_key text default null, p_fingerprint text default '', p_client text default '')
returns boolean
language plpgsql set search_path = public, pg_temp as $$
declare
    v_revision bigint;
    v_taken project_photos;
begin
    perform lock_project_v1(p_project_id);
    select photos_revision into v_revision from projects
     where id = p_project_id and status <> 'uploading' for no key update;
    if not found or is_marked_v1(p_project_id) then
        raise exception using errcode = 'GL404',
            message = format('There is no project %s.', p_project_id);
    end if;
    if p_idempotency_key is not null then
        select * into v_taken from project_photos
         where client = p_client and idempotency_key = p_idempotency_key;
        if v_taken.id is not null and v_taken.fingerprint is distinct from p_fingerprint then
            raise exception using errcode = 'GL422', message = format(
                'Idempotency key %s belongs to another request.', p_idempotency_key);
        end if;
    end if;
    if v_revision <> p_revision or v_taken.id is not null then
        raise exception using errcode = 'GL409', message = format(
            'The photos of project %s have been changed meanwhile.', p_project_id);
    end if;
    if jsonb_array_length(p_photos) not between 1 and 8 then
        raise exception using errcode = 'GL400', message = 'A project has 1 to 8 photos.';
    end if;

    -- Taken out first, so that nothing is in a place that another one gets.
    update project_photos f
       set position = null,
           state = case when exists (
                   select 1 from jobs j where j.project_id = p_project_id
                      and j.photos @> jsonb_build_array(jsonb_build_object('id', f.id)))
               then 'kept' else 'removed' end
     where f.project_id = p_project_id and f.state = 'listed'
       and not p_photos @> jsonb_build_array(jsonb_build_object('id', f.id));
    update project_photos f
       set position = a.place - 1, state = 'listed', side = r.side, azimuth_deg = r.azimuth_deg,
           elevation_deg = r.elevation_deg
      from jsonb_array_elements(p_photos) with ordinality a (photo, place)
     cross join lateral jsonb_to_record(a.photo) as r (
        id text, side text, azimuth_deg double precision, elevation_deg double precision)
     where f.id = r.id and f.project_id = p_project_id and f.state in ('arriving', 'listed');
    if (select count(*) from project_photos f
         where f.project_id = p_project_id and f.state = 'listed')
            <> jsonb_array_length(p_photos) then
        raise exception using errcode = 'GL404', message = format(
            'A photo of project %s is not there any more.', p_project_id);
    end if;
    if p_idempotency_key is not null then
        -- Somebody may have used it for a photo of another project in this moment.
        begin
            update project_photos
               set idempotency_key = p_idempotency_key, fingerprint = p_fingerprint,
                   client = p_client
             where id = p_added and project_id = p_project_id;
        exception when unique_violation then
            raise exception using errcode = 'GL422', message = format(
                'Idempotency key %s belongs to another request.', p_idempotency_key);
        end;
    end if;
    update projects set photos_revision = photos_revision + 1 where id = p_project_id;
    return true;
end
$$;

-- [{id, project_id, original_path, processed_path}] of photos whose files are to go: those that were
-- taken out, or have been arriving for so long. A path is null where another photo has the file, too.
create or replace function public.due_photos_v1(
    p_age_s double precision, p_limit integer default 20)
returns jsonb
language plpgsql set search_path = public, pg_temp as $$
declare
    v_since constant timestamptz := ago_v1(p_age_s);
begin
    perform check_limit_v1(p_limit);
    update project_photos set state = 'removed'
     where id in (select id from project_photos
                   where state = 'arriving' and created_at <= v_since
                   order by created_at limit p_limit for update skip locked);
    return (
        select coalesce(jsonb_agg(jsonb_build_object(
                   'id', d.id, 'project_id', d.project_id,
                   'original_path', case when not exists (
                        select 1 from project_photos o
                         where o.project_id = d.project_id and o.state <> 'removed'
                           and o.original_path = d.original_path) then d.original_path end,
                   'processed_path', case when not exists (
                        select 1 from project_photos o
                         where o.project_id = d.project_id and o.state <> 'removed'
                           and o.processed_path = d.processed_path) then d.processed_path end
               ) order by d.created_at, d.id), '[]')
          from (select * from project_photos f
                 where f.state = 'removed' and not is_marked_v1(f.project_id)
                 order by f.created_at, f.id limit p_limit) d);
end
$$;

-- arriving -> removed. Whether its files may go: not where it is a photo of the project by now.
create or replace function public.take_photo_back_v1(p_photo_id text) returns boolean
language plpgsql set search_path = public, pg_temp as $$
begin
    update project_photos set state = 'removed' where id = p_photo_id and state = 'arriving';
    return not exists (
        select 1 from project_photos where id = p_photo_id and state in ('listed', 'kept'));
end
$$;

-- The files of a photo that was taken out are gone. Harmless for any other.
create or replace function public.end_photo_v1(p_photo_id text) returns boolean
language plpgsql set search_path = public, pg_temp as $$
begin
    delete from project_photos where id = p_photo_id and state = 'removed';
    return found;
end
$$;

-- ---------------------------------------------------------------------------------------------
-- jobs, from the outside

-- -> queued
-- The options of a job that begins with a model version name it afterwards: the current one where
-- they did not.
create or replace function public.submit_job_v1(
    p_project_id text, p_kind text, p_options jsonb, p_fingerprint text,
    p_idempotency_key text default null, p_max_attempts integer default 3,
    p_max_queued integer default null, p_client text default '', p_shape text default '',
    p_webhook_url text default null)
returns jsonb
language plpgsql set search_path = public, pg_temp as $$
declare
    v_status text;
    v_current integer;
    v_version integer;
    v_job jobs;
    v_busy text;
begin
    perform lock_project_v1(p_project_id);
    -- Two submissions to one project come one after the other from here.
    select status, current_version into v_status, v_current
      from projects where id = p_project_id for no key update;
    if not found or is_marked_v1(p_project_id) then
        raise exception using errcode = 'GL404',
            message = format('There is no project %s.', p_project_id);
    end if;
    if v_status = 'uploading' then
        raise exception using errcode = 'GL409',
            message = format('Project %s is not uploaded yet.', p_project_id);
    end if;

    select * into v_job from jobs
     where client = p_client and idempotency_key = p_idempotency_key;
    if not found then
        select id into v_busy from jobs
         where project_id = p_project_id and state in ('queued', 'running');
        if found then
            raise exception using errcode = 'GL423', detail = v_busy, message = format(
                'Project %s is busy with job %s.', p_project_id, v_busy);
        end if;
        -- What begins with a version has it in its options, whatever becomes current later.
        if p_kind <> 'generate' or p_options ->> 'from_stage' is not null then
            if v_current is null then
                raise exception using errcode = 'GL425', message = case
                    when p_kind = 'generate' then format(
                        'Project %s has no version yet whose stages could be kept: generate one '
                        'without from.', p_project_id)
                    else format(
                        'Project %s has no model yet: generate one before %s.',
                        p_project_id, p_kind) end;
            end if;
            v_version := coalesce((p_options ->> 'version')::integer, v_current);
            perform check_version_v1(p_project_id, v_version);
            p_options := p_options || jsonb_build_object('version', v_version);
        end if;

        -- Submissions to other projects may slip in between: a few jobs too many do no harm.
        if p_max_queued <= (select count(*) from jobs where state = 'queued') then
            raise exception using errcode = 'GL503', message = format(
                '%s jobs are waiting already.', p_max_queued);
        end if;

        insert into jobs (
            project_id, kind, options, fingerprint, idempotency_key, max_attempts, client, shape,
            webhook_url, photos)
        values (
            p_project_id, p_kind, p_options, p_fingerprint, p_idempotency_key, p_max_attempts,
            p_client, p_shape, p_webhook_url,
            -- Nobody changes them meanwhile: that takes the project's name, too. What goes on from a
            -- version works with the photos of that one.
            case when p_kind <> 'generate' then '[]'
                else coalesce((
                    select nullif(j.photos, '[]') from gaussian_splat_models m
                      join jobs j on j.id = m.job_id
                     where m.project_id = p_project_id
                       and m.version = generation_of_v1(p_project_id, v_version)),
                    photos_document_v1(p_project_id)) end)
        on conflict (client, idempotency_key) where idempotency_key is not null do nothing
        returning * into v_job;
        if found then
            perform add_job_state_event_v1(v_job);
            perform show_job_on_project_v1(v_job);
            return jsonb_build_object('job', job_document_v1(v_job), 'created', true);
        end if;
        -- Somebody used the key for another project a moment ago.
        select * into v_job from jobs
         where client = p_client and idempotency_key = p_idempotency_key;
    end if;

    if v_job.fingerprint is distinct from p_fingerprint then
        raise exception using errcode = 'GL422', message = format(
            'Idempotency key %s belongs to another request.', p_idempotency_key);
    end if;
    return jsonb_build_object('job', job_document_v1(v_job), 'created', false);
end
$$;

create or replace function public.get_job_v1(p_job_id text) returns jsonb
language plpgsql stable set search_path = public, pg_temp as $$
declare
    v_job jobs;
begin
    select * into v_job from jobs where id = p_job_id;
    if not found then
        raise exception using errcode = 'GL404', message = format('There is no job %s.', p_job_id);
    end if;
    return job_document_v1(v_job);
end
$$;

-- {id: job} of these jobs that have ended, {id: null} of those that are not there.
create or replace function public.ended_jobs_v1(p_job_ids jsonb) returns jsonb
language sql stable set search_path = public, pg_temp as $$
    select coalesce(
               jsonb_object_agg(a.id, case when j.id is not null then job_document_v1(j) end), '{}')
      from jsonb_array_elements_text(p_job_ids) a (id)
      left join jobs j on j.id = a.id
     where j.id is null or j.finished_at is not null
$$;

-- {queued, running}, each {kind: number}
create or replace function public.queue_v1() returns jsonb
language sql stable set search_path = public, pg_temp as $$
    select jsonb_build_object('queued', '{}'::jsonb, 'running', '{}'::jsonb)
           || coalesce(jsonb_object_agg(s.state, s.kinds), '{}')
      from (select c.state, jsonb_object_agg(c.kind, c.jobs) as kinds
              from (select state, kind, count(*) as jobs from jobs
                     where state in ('queued', 'running') group by state, kind) c
             group by c.state) s
$$;

create or replace function public.job_events_v1(
    p_job_id text, p_after bigint default 0, p_limit integer default 200)
returns jsonb
language plpgsql stable set search_path = public, pg_temp as $$
declare
    v_number bigint;
begin
    perform check_limit_v1(p_limit);
    select queue_number into v_number from jobs where id = p_job_id;
    if not found then
        raise exception using errcode = 'GL404', message = format('There is no job %s.', p_job_id);
    end if;
    return (
        select coalesce(jsonb_agg(
                   to_jsonb(e) || jsonb_build_object('job_number', v_number) order by e.seq), '[]')
          from (select * from job_events
                 where job_id = p_job_id and seq > p_after
                 order by seq limit p_limit) e);
end
$$;

create or replace function public.project_events_v1(
    p_project_id text, p_after_job bigint default 0, p_after_seq bigint default 0,
    p_limit integer default 200)
returns jsonb
language plpgsql stable set search_path = public, pg_temp as $$
begin
    perform check_limit_v1(p_limit);
    perform 1 from projects where id = p_project_id;
    if not found then
        raise exception using errcode = 'GL404',
            message = format('There is no project %s.', p_project_id);
    end if;
    return (
        select coalesce(jsonb_agg(to_jsonb(e) order by e.job_number, e.seq), '[]')
          from (select v.*, j.queue_number as job_number
                  from jobs j join job_events v on v.job_id = j.id
                 where j.project_id = p_project_id
                   and j.queue_number >= p_after_job
                   and (j.queue_number > p_after_job or v.seq > p_after_seq)
                 order by j.queue_number, v.seq limit p_limit) e);
end
$$;

-- queued, or running with an expired lease -> cancelled; running -> running, asked to stop
create or replace function public.cancel_job_v1(p_job_id text) returns jsonb
language plpgsql set search_path = public, pg_temp as $$
declare
    v_job jobs;
begin
    select * into v_job from jobs where id = p_job_id for update;
    if not found then
        raise exception using errcode = 'GL404', message = format('There is no job %s.', p_job_id);
    end if;
    if v_job.state = 'queued'
            or (v_job.state = 'running' and v_job.lease_expires_at <= clock_timestamp()) then
        update jobs set cancel_requested = true where id = p_job_id;
        v_job := end_job_v1(p_job_id, 'cancelled', null, null);
    elsif v_job.state = 'running' and not v_job.cancel_requested then
        update jobs set cancel_requested = true where id = p_job_id returning * into v_job;
        perform add_job_event_v1(p_job_id, 'cancel', jsonb_build_object('stage', v_job.stage));
    end if;
    return job_document_v1(v_job);
end
$$;

-- ---------------------------------------------------------------------------------------------
-- jobs, from the driver

-- queued -> running; running with an expired lease -> running | failed | cancelled
-- Returns null when there is nothing to do, or p_max_running jobs hold leases already.
drop function if exists public.claim_job_v1(text, double precision);  -- before the first release
create or replace function public.claim_job_v1(
    p_worker text, p_lease_s double precision, p_max_running integer default null)
returns jsonb
language plpgsql set search_path = public, pg_temp as $$
declare
    v_id text;
    v_job jobs;
    v_free boolean;
    v_full boolean := false;
begin
    perform check_lease_v1(p_lease_s);
    if p_max_running < 1 then
        raise exception using errcode = 'GL400',
            message = format('max_running must be at least 1, not %s.', p_max_running);
    elsif p_max_running is not null then
        -- Two that count at once would both find room for one more.
        perform pg_advisory_xact_lock(hashtextextended('glimpse3d claims', 0));
        v_full := p_max_running <= (
            select count(*) from jobs
             where state = 'running' and lease_expires_at > clock_timestamp());
    end if;
    loop
        -- Without room those that only have to be ended, and the queue is not even read.
        select * into v_job from jobs j
         where state = 'running' and lease_expires_at <= clock_timestamp()
           and (not v_full or cancel_requested
                or (attempt >= max_attempts and not is_false_start_v1(j)))
         order by queue_number
         for update skip locked
         limit 1;
        if v_job.id is null and not v_full then
            -- The order is of a moment ago: another claimer may have taken the first ones since.
            for v_id in select o.job_id from queue_order_v1() o order by o.place loop
                select * into v_job from jobs
                 where id = v_id and state = 'queued'
                   and (not_before is null or not_before <= clock_timestamp())
                 for update skip locked;
                exit when found;
            end loop;
        end if;
        exit when v_job.id is null;

        v_free := v_job.state = 'running' and is_false_start_v1(v_job);
        if v_job.cancel_requested then
            perform end_job_v1(v_job.id, 'cancelled', null, null);
        elsif v_job.attempt >= v_job.max_attempts and not v_free then
            perform end_job_v1(v_job.id, 'failed', null, jsonb_build_object(
                'code', 'attempts_exhausted',
                'detail', format('The job was given up after %s attempts: the last one stopped '
                    'without an answer%s.%s', v_job.attempt,
                    case when v_job.stage <> '' then format(' in stage %s', v_job.stage) end,
                    ' One before it had ended so: ' || (v_job.last_error ->> 'detail')),
                'stage', v_job.stage,
                'retryable', true));
        else
            update jobs
               set state = 'running',
                   fence = fence + 1,
                   attempt = case when v_free then attempt else attempt + 1 end,
                   false_starts = case when v_free then false_starts + 1 else false_starts end,
                   stage = '',  -- until the driver's first heartbeat
                   step = '',
                   step_started_at = clock_timestamp(),
                   not_before = null,
                   worker = p_worker,
                   lease_expires_at = clock_timestamp() + make_interval(secs => p_lease_s),
                   started_at = coalesce(started_at, clock_timestamp())
             where id = v_job.id
            returning * into v_job;
            perform add_job_state_event_v1(v_job);
            perform show_job_on_project_v1(v_job);
            return jsonb_build_object('job', job_document_v1(v_job), 'fence', v_job.fence);
        end if;
    end loop;
    return null;
end
$$;

-- running -> running. A job that is gone is not owned: its project was deleted.
create or replace function public.heartbeat_v1(
    p_job_id text, p_fence bigint, p_lease_s double precision, p_stage text,
    p_progress double precision, p_step text default '')
returns jsonb
language plpgsql set search_path = public, pg_temp as $$
declare
    v_before jobs;
    v_job jobs;
    v_data jsonb;
begin
    perform check_lease_v1(p_lease_s);
    select * into v_before from jobs
     where id = p_job_id and fence = p_fence and state = 'running' for update;
    if not found then
        return jsonb_build_object('owned', false, 'cancel_requested', coalesce(
            (select cancel_requested from jobs where id = p_job_id), false));
    end if;
    update jobs
       set lease_expires_at = clock_timestamp() + make_interval(secs => p_lease_s),
           stage = coalesce(nullif(p_stage, ''), stage),
           false_starts = case when coalesce(nullif(p_stage, ''), stage) in ('', 'start')
               then false_starts else 0 end,
           step = left(coalesce(p_step, ''), 200),
           progress = least(greatest(progress, coalesce(nullif(p_progress, 'NaN'), 0)), 1)
     where id = p_job_id
    returning * into v_job;
    v_data := jsonb_strip_nulls(jsonb_build_object(
        'stage', v_job.stage, 'step', nullif(v_job.step, ''), 'progress', v_job.progress,
        'attempt', v_job.attempt));
    if v_job.stage <> v_before.stage then
        perform add_job_event_v1(p_job_id, 'stage', v_data);
    -- A little less than a percent: 0.29 - 0.28 is below 0.01.
    elsif v_job.progress - v_before.told_progress >= 0.01 - 1e-9 then
        perform add_job_event_v1(p_job_id, 'progress', v_data);
    end if;
    perform show_job_on_project_v1(v_job);
    return jsonb_build_object('owned', true, 'cancel_requested', v_job.cancel_requested);
end
$$;

-- Tells of a small model of what a running stage has so far. p_preview: {stage, step, path,
-- splat_count}; the file is gone with the attempt, and no row but the event names it.
create or replace function public.publish_preview_v1(
    p_job_id text, p_fence bigint, p_preview jsonb)
returns jsonb
language plpgsql set search_path = public, pg_temp as $$
declare
    v_job jobs := lock_attempt_v1(p_job_id, p_fence);
begin
    -- Its file may outlive the attempt where it cannot be deleted.
    update jobs set shown = true where id = p_job_id and not shown;
    perform add_job_event_v1(p_job_id, 'preview', jsonb_strip_nulls(jsonb_build_object(
        'stage', p_preview ->> 'stage',
        'step', nullif(left(p_preview ->> 'step', 200), ''),
        'path', p_preview ->> 'path',
        'splat_count', (p_preview ->> 'splat_count')::bigint,
        'attempt', v_job.attempt)));
    return jsonb_build_object('told', true);
end
$$;

-- running -> running. `detail.applied_edits` are done with it. p_commit: {stage, seconds, detail, views, depths, models, iterations,
-- enhanced, exports, previews, sheets}, where lists may be left out, and in their rows what has a
-- default. Replaces what the stage had committed; its place in the order stays.
create or replace function public.commit_stage_v1(p_job_id text, p_fence bigint, p_commit jsonb)
returns jsonb
language plpgsql set search_path = public, pg_temp as $$
declare
    v_job jobs := lock_attempt_v1(p_job_id, p_fence);
    v_stage constant text := p_commit ->> 'stage';
    v_ordinal integer;
begin
    delete from job_stages where job_id = p_job_id and stage = v_stage
    returning ordinal into v_ordinal;
    if v_ordinal is null then
        select coalesce(max(ordinal), 0) + 1 into v_ordinal from job_stages
         where job_id = p_job_id;
    end if;
    insert into job_stages (job_id, stage, ordinal, seconds, fence, detail)
    values (p_job_id, v_stage, v_ordinal, (p_commit ->> 'seconds')::double precision, p_fence,
            coalesce(p_commit -> 'detail', '{}'));

    insert into multiview_generation (
        project_id, job_id, stage, view_index, image_path, azimuth_deg, elevation_deg, engine, edit)
    select v_job.project_id, p_job_id, v_stage, r.view_index, r.image_path, r.azimuth_deg,
           r.elevation_deg, r.engine, coalesce(r.edit, '')
      from jsonb_to_recordset(coalesce(p_commit -> 'views', '[]')) as r (
        view_index integer, image_path text, azimuth_deg double precision,
        elevation_deg double precision, engine text, edit text);

    insert into depth_maps (
        project_id, job_id, stage, view_index, depth_path, heat_map_path, engine, min_depth,
        max_depth)
    select v_job.project_id, p_job_id, v_stage, r.*
      from jsonb_to_recordset(coalesce(p_commit -> 'depths', '[]')) as r (
        view_index integer, depth_path text, heat_map_path text, engine text,
        min_depth double precision, max_depth double precision);

    insert into gaussian_splat_models (
        project_id, job_id, stage, version, model_path, engine, origin, splat_count,
        file_size_bytes, psnr, ssim, lpips, view_agreement, expected_likeness, scores,
        parent)
    select v_job.project_id, p_job_id, v_stage, r.version, r.model_path, r.engine, r.origin,
           r.splat_count, r.file_size_bytes, r.psnr, r.ssim, r.lpips, r.view_agreement,
           r.expected_likeness, coalesce(r.scores, '{}'), r.parent
      from jsonb_to_recordset(coalesce(p_commit -> 'models', '[]')) as r (
        version integer, model_path text, engine text, origin text, splat_count bigint,
        file_size_bytes bigint, psnr double precision, ssim double precision,
        lpips double precision, view_agreement double precision,
        expected_likeness double precision, scores jsonb, parent integer);
    if found then
        update projects p
           set current_version = (select max(m.version) from gaussian_splat_models m
                                   where m.job_id = p_job_id and m.stage = v_stage)
         where p.id = v_job.project_id;
    end if;
    -- Edits that the stage has done: numbers of rows.
    update view_edits d set applied_by = p_job_id
     where d.project_id = v_job.project_id
       and d.id in (select e::bigint from jsonb_array_elements_text(
               case when jsonb_typeof(p_commit -> 'detail' -> 'applied_edits') = 'array'
                   then p_commit -> 'detail' -> 'applied_edits' else '[]' end) e);

    insert into enhancement_iterations (
        project_id, job_id, stage, iteration_number, accepted, model_version, enhance_engine,
        strength, learning_rate, seconds, note, detail)
    select v_job.project_id, p_job_id, v_stage, r.iteration_number, r.accepted, r.model_version,
           r.enhance_engine, r.strength, r.learning_rate, r.seconds, r.note,
           coalesce(r.detail, '{}')
      from jsonb_to_recordset(coalesce(p_commit -> 'iterations', '[]')) as r (
        iteration_number integer, accepted boolean, model_version integer, enhance_engine text,
        strength double precision, learning_rate double precision, seconds double precision,
        note text, detail jsonb);

    insert into refinement_metrics (
        project_id, job_id, stage, iteration_number, view_agreement, expected_likeness, psnr, ssim,
        lpips, scores)
    select v_job.project_id, p_job_id, v_stage, r.iteration_number, r.view_agreement,
           r.expected_likeness, r.psnr, r.ssim, r.lpips, coalesce(r.scores, '{}')
      from jsonb_to_recordset(coalesce(p_commit -> 'iterations', '[]')) as r (
        iteration_number integer, view_agreement double precision,
        expected_likeness double precision, psnr double precision, ssim double precision,
        lpips double precision, scores jsonb);

    insert into enhanced_views (
        project_id, job_id, stage, iteration_number, view_index, image_path, engine,
        before_path, after_path, weight)
    select v_job.project_id, p_job_id, v_stage, r.*
      from jsonb_to_recordset(coalesce(p_commit -> 'enhanced', '[]')) as r (
        iteration_number integer, view_index integer, image_path text, engine text,
        before_path text, after_path text, weight double precision);

    insert into export_history (
        project_id, job_id, stage, model_version, format, optimize, file_path, file_size_bytes,
        seconds, options, contents, saved, notes)
    select v_job.project_id, p_job_id, v_stage, r.model_version, r.format, r.optimize, r.file_path,
           r.file_size_bytes, r.seconds, coalesce(r.options, '{}'), coalesce(r.contents, '{}'),
           coalesce(r.saved, '{}'), coalesce(r.notes, '[]')
      from jsonb_to_recordset(coalesce(p_commit -> 'exports', '[]')) as r (
        model_version integer, format text, optimize boolean, file_path text,
        file_size_bytes bigint, seconds double precision, options jsonb, contents jsonb,
        saved jsonb, notes jsonb);

    insert into model_previews (
        project_id, job_id, stage, version, thumbnail_path, turntable_path)
    select v_job.project_id, p_job_id, v_stage, r.*
      from jsonb_to_recordset(coalesce(p_commit -> 'previews', '[]')) as r (
        version integer, thumbnail_path text, turntable_path text);

    insert into contact_sheets (project_id, job_id, stage, model_version, image_path)
    select v_job.project_id, p_job_id, v_stage, r.*
      from jsonb_to_recordset(coalesce(p_commit -> 'sheets', '[]')) as r (
        model_version integer, image_path text);

    perform add_job_event_v1(p_job_id, 'commit', jsonb_build_object(
        'stage', v_stage, 'seconds', (p_commit ->> 'seconds')::double precision,
        'progress', v_job.progress, 'attempt', v_job.attempt));
    return job_document_v1(v_job);
end
$$;

-- What the job's attempts have committed, in the order of the stages' first commits.
create or replace function public.committed_v1(p_job_id text) returns jsonb
language plpgsql stable set search_path = public, pg_temp as $$
declare
    v_hidden constant text[] := array['id', 'project_id', 'job_id', 'stage', 'created_at'];
begin
    perform 1 from jobs where id = p_job_id;
    if not found then
        raise exception using errcode = 'GL404', message = format('There is no job %s.', p_job_id);
    end if;
    return (
        select coalesce(jsonb_agg(jsonb_build_object(
            'stage', s.stage,
            'seconds', s.seconds,
            'detail', s.detail,
            'views', (
                select coalesce(jsonb_agg(to_jsonb(v) - v_hidden order by v.id), '[]')
                  from multiview_generation v where (v.job_id, v.stage) = (s.job_id, s.stage)),
            'depths', (
                select coalesce(jsonb_agg(to_jsonb(d) - v_hidden order by d.id), '[]')
                  from depth_maps d where (d.job_id, d.stage) = (s.job_id, s.stage)),
            'models', (
                select coalesce(jsonb_agg(to_jsonb(m) - v_hidden order by m.id), '[]')
                  from gaussian_splat_models m where (m.job_id, m.stage) = (s.job_id, s.stage)),
            'iterations', (
                select coalesce(jsonb_agg(
                           (to_jsonb(i) || to_jsonb(r)) - v_hidden order by i.id), '[]')
                  from enhancement_iterations i
                  join refinement_metrics r using (job_id, iteration_number)
                 where (i.job_id, i.stage) = (s.job_id, s.stage)),
            'enhanced', (
                select coalesce(jsonb_agg(to_jsonb(n) - v_hidden order by n.id), '[]')
                  from enhanced_views n where (n.job_id, n.stage) = (s.job_id, s.stage)),
            'exports', (
                select coalesce(jsonb_agg(to_jsonb(e) - v_hidden order by e.id), '[]')
                  from export_history e where (e.job_id, e.stage) = (s.job_id, s.stage)),
            'previews', (
                select coalesce(jsonb_agg(to_jsonb(w) - v_hidden order by w.id), '[]')
                  from model_previews w where (w.job_id, w.stage) = (s.job_id, s.stage)),
            'sheets', (
                select coalesce(jsonb_agg(to_jsonb(c) - v_hidden order by c.id), '[]')
                  from contact_sheets c where (c.job_id, c.stage) = (s.job_id, s.stage))
            ) order by s.ordinal), '[]')
          from job_stages s where s.job_id = p_job_id);
end
$$;

-- All jobs of a project, oldest first, with what they committed: what report and manifest read.
create or replace function public.project_jobs_v1(p_project_id text) returns jsonb
language plpgsql stable set search_path = public, pg_temp as $$
begin
    perform 1 from projects where id = p_project_id;
    if not found then
        raise exception using errcode = 'GL404',
            message = format('There is no project %s.', p_project_id);
    end if;
    return (
        select coalesce(jsonb_agg(jsonb_build_object(
                   'job', job_document_v1(j), 'stages', committed_v1(j.id)
               ) order by j.queue_number), '[]')
          from jobs j where j.project_id = p_project_id);
end
$$;

-- running -> succeeded | failed | cancelled. An attempt that did not hear the answer may ask again.
create or replace function public.finish_job_v1(
    p_job_id text, p_fence bigint, p_state text, p_result jsonb default null,
    p_error jsonb default null)
returns jsonb
language plpgsql set search_path = public, pg_temp as $$
declare
    v_job jobs;
begin
    if p_state not in ('succeeded', 'failed', 'cancelled') then
        raise exception using errcode = 'GL400',
            message = format('A job cannot finish as %s.', p_state);
    end if;
    if p_state = 'failed' and p_error is null then
        raise exception using errcode = 'GL400', message = 'A failed job needs an error.';
    end if;
    select * into v_job from jobs
     where id = p_job_id and fence = p_fence and state = p_state for update;
    if found then
        return job_document_v1(v_job);
    end if;
    v_job := lock_attempt_v1(p_job_id, p_fence);
    return job_document_v1(end_job_v1(p_job_id, p_state, p_result, p_error));
end
$$;

-- running -> queued; -> cancelled when that was asked for. Without an error the attempt does not
-- count (its driver was drained); with one it does, and the last one fails the job with it, unless
-- it was a false start. An attempt that did not hear the answer may ask again.
create or replace function public.release_job_v1(
    p_job_id text, p_fence bigint, p_error jsonb default null,
    p_delay_s double precision default 0)
returns jsonb
language plpgsql set search_path = public, pg_temp as $$
declare
    v_job jobs;
    v_told jobs;
    v_free boolean;
begin
    if p_delay_s is null or p_delay_s not between 0 and 86400 then
        raise exception using errcode = 'GL400',
            message = format('delay_s must be 0 to 86400, not %s.', p_delay_s);
    end if;
    select * into v_job from jobs
     where id = p_job_id and fence = p_fence and fence > 0
       and state in ('queued', 'failed', 'cancelled') for update;
    if found then
        return job_document_v1(v_job);
    end if;
    v_job := lock_attempt_v1(p_job_id, p_fence);
    -- An error that names another stage is not of the start: a heartbeat was too late to say so.
    v_free := p_error is null or (
        is_false_start_v1(v_job) and coalesce(p_error ->> 'stage', '') in ('', 'start'));
    if p_error is not null then
        update jobs set last_error = p_error where id = p_job_id;
    end if;
    if v_job.cancel_requested then
        return job_document_v1(end_job_v1(p_job_id, 'cancelled', null, null));
    end if;
    if not v_free and v_job.attempt >= v_job.max_attempts then
        return job_document_v1(end_job_v1(p_job_id, 'failed', null, p_error));
    end if;
    if v_free and p_error is not null then
        update jobs set false_starts = false_starts + 1 where id = p_job_id;
        p_delay_s := greatest(p_delay_s, least(0.5 * 2 ^ v_job.false_starts, 60));
    end if;
    update jobs
       set state = 'queued', step = '', worker = null, lease_expires_at = null,
           not_before = case when p_delay_s > 0 then ago_v1(-p_delay_s) end,
           attempt = case when v_free then attempt - 1 else attempt end
     where id = p_job_id
    returning * into v_job;
    -- The job has no error, it goes on; its event says why it has to.
    v_told := v_job;
    v_told.error := p_error;
    perform add_job_state_event_v1(v_told);
    perform show_job_on_project_v1(v_job);
    return job_document_v1(v_job);
end
$$;

-- ---------------------------------------------------------------------------------------------
-- files without rows

-- Not of projects that are busy or marked: those have to wait, and would stand in the way of others.
create or replace function public.jobs_to_sweep_v1(p_limit integer default 20) returns jsonb
language plpgsql stable set search_path = public, pg_temp as $$
begin
    perform check_limit_v1(p_limit);
    return (
        select coalesce(jsonb_agg(
                   job_document_v1(j.job) order by j.finished_at, j.queue_number), '[]')
          from (select c as job, c.finished_at, c.queue_number from jobs c
                 where c.swept_at is null and (c.state in ('failed', 'cancelled')
                                               or (c.state = 'succeeded'
                                                   and (c.fence > 1 or c.shown)))
                   and not is_marked_v1(c.project_id)
                   and not exists (select 1 from jobs a where a.project_id = c.project_id
                                      and a.state in ('queued', 'running'))
                 order by c.finished_at, c.queue_number limit p_limit) j);
end
$$;

-- {bucket: [path, ...]}: every `*_path` of every table, and `files` (name to path) of stages. Files
-- of a stage that is not known here count in every bucket: better one too many is kept.
create or replace function public.referenced_paths_v1(p_project_id text) returns jsonb
language sql stable set search_path = public, pg_temp as $$
    with named (bucket, path) as (
        select 'project-uploads', original_path from project_photos
               where project_id = p_project_id
        union select 'processed-images', processed_path from project_photos
               where project_id = p_project_id
        union select 'multiview-images', image_path from multiview_generation
               where project_id = p_project_id
        union select 'multiview-images', image_path from view_edits
               where project_id = p_project_id and image_path is not null
        union select 'depth-maps', unnest(array[depth_path, heat_map_path]) from depth_maps
               where project_id = p_project_id
        union select 'enhanced-views', unnest(array[image_path, before_path, after_path])
                from enhanced_views where project_id = p_project_id
        union select '3d-models', model_path from gaussian_splat_models
               where project_id = p_project_id
        union select '3d-models', unnest(array[thumbnail_path, turntable_path])
                from model_previews where project_id = p_project_id
        union select '3d-models', image_path from contact_sheets where project_id = p_project_id
        union select '3d-models', file_path from export_history where project_id = p_project_id
        union select b.bucket, f.value
                from job_stages s
                join jobs j on j.id = s.job_id and j.project_id = p_project_id
               cross join lateral unnest(case s.stage
                    when 'generator' then array['3d-models']
                    when 'views' then array['multiview-images']
                    when 'depth' then array['depth-maps']
                    when 'photos' then array['multiview-images']
                    else array['project-uploads', 'processed-images', 'multiview-images',
                               'depth-maps', 'enhanced-views', '3d-models'] end) as b (bucket)
               cross join lateral jsonb_each_text(
                    case when jsonb_typeof(s.detail -> 'files') = 'object'
                        then s.detail -> 'files' else '{}' end) f
    )
    select (select jsonb_object_agg(g.bucket, g.paths)
              from (select bucket, jsonb_agg(path) as paths from named
                     where path <> '' group by bucket) g)
      from projects p
     where p.id = p_project_id and p.status <> 'uploading' and not is_marked_v1(p.id)
       and not exists (select 1 from jobs a where a.project_id = p.id
                          and a.state in ('queued', 'running'))
$$;

create or replace function public.mark_swept_v1(p_job_id text) returns boolean
language plpgsql set search_path = public, pg_temp as $$
begin
    update jobs set swept_at = clock_timestamp() where id = p_job_id and finished_at is not null;
    return found;
end
$$;

-- ---------------------------------------------------------------------------------------------
-- history

-- What is only of use for a while after a job has ended, or a photo was uploaded: the job's events
-- but the last, which tells how it ended; messages that were delivered or given up; idempotency
-- keys. How many jobs, messages, uploads and photos it went from, each at most p_limit.
create or replace function public.forget_v1(
    p_age_s double precision, p_limit integer default 100)
returns bigint
language plpgsql set search_path = public, pg_temp as $$
declare
    v_before constant timestamptz := ago_v1(p_age_s);
    v_number bigint;
begin
    perform check_limit_v1(p_limit);
    -- Who holds a row works on it: the next round has it.
    with due as (
        select id, last_event from jobs
         where forgotten_at is null and finished_at <= v_before
         order by finished_at limit p_limit for update skip locked
    ), events as (
        delete from job_events e using due d where e.job_id = d.id and e.seq < d.last_event
    ), forgotten as (
        update jobs j set forgotten_at = clock_timestamp(), idempotency_key = null
          from due d where j.id = d.id returning 1
    ), ended as (
        select job_id from webhooks
         where state <> 'pending' and created_at <= v_before
         order by created_at limit p_limit for update skip locked
    ), messages as (
        delete from webhooks w using ended e where w.job_id = e.job_id returning 1
    ), keys as (
        select id from projects
         where idempotency_key is not null and created_at <= v_before
         order by created_at limit p_limit for update skip locked
    ), uploads as (
        update projects p set idempotency_key = null from keys k where p.id = k.id returning 1
    ), added as (
        select id from project_photos
         where idempotency_key is not null and created_at <= v_before
         order by created_at limit p_limit for update skip locked
    ), photos as (
        update project_photos f set idempotency_key = null from added a where f.id = a.id
        returning 1
    )
    select (select count(*) from forgotten) + (select count(*) from messages)
           + (select count(*) from uploads) + (select count(*) from photos)
      into v_number;
    return v_number;
end
$$;

-- ---------------------------------------------------------------------------------------------
-- the folder of the files

-- {id, originals}: the folder's id or null, and the newest photos that must be in it.
create or replace function public.file_store_v1() returns jsonb
language sql stable set search_path = public, pg_temp as $$
    select jsonb_build_object(
        'id', (select id from file_store),
        'originals', (
            select coalesce(jsonb_agg(n.original_path), '[]')
              from (select f.original_path from projects p
                      join project_photos f on f.project_id = p.id and f.position = 0
                     where p.status <> 'uploading' and not is_marked_v1(p.id)
                     order by p.created_at desc, p.id limit 20) n))
$$;

-- The id that counts: the first one that was given.
create or replace function public.name_file_store_v1(p_id text) returns text
language plpgsql set search_path = public, pg_temp as $$
begin
    if coalesce(p_id, '') = '' then
        raise exception using errcode = 'GL400', message = 'A folder needs an id.';
    end if;
    insert into file_store (id) values (p_id) on conflict do nothing;
    return (select id from file_store);
end
$$;

-- ---------------------------------------------------------------------------------------------
-- messages about ended jobs

-- {job, url, attempt, claimed_at} of one that is due, or null.
create or replace function public.claim_webhook_v1(p_lease_s double precision) returns jsonb
language plpgsql set search_path = public, pg_temp as $$
declare
    v_hook webhooks;
    v_job jobs;
begin
    perform check_lease_v1(p_lease_s);
    select * into v_hook from webhooks
     where state = 'pending' and next_at <= now()  -- which an index can be asked for
     order by next_at for update skip locked limit 1;
    if not found then
        return null;
    end if;
    update webhooks
       set attempts = attempts + 1, next_at = clock_timestamp() + make_interval(secs => p_lease_s)
     where job_id = v_hook.job_id
    returning * into v_hook;
    select * into v_job from jobs where id = v_hook.job_id;
    return jsonb_build_object(
        'job', job_document_v1(v_job), 'url', v_hook.url, 'attempt', v_hook.attempts,
        'claimed_at', clock_timestamp());
end
$$;

-- pending -> delivered | pending | given_up. Whether the try was the newest: whoever wakes up after
-- its lease changes nothing about a message that another sends.
drop function if exists public.finish_webhook_v1(  -- before the first release
    text, text, double precision);
create or replace function public.finish_webhook_v1(
    p_job_id text, p_attempt integer, p_error text default null,
    p_retry_in_s double precision default null)
returns boolean
language plpgsql set search_path = public, pg_temp as $$
begin
    update webhooks
       set state = case
               when p_error is null then 'delivered'
               when p_retry_in_s is null then 'given_up'
               else 'pending' end,
           next_at = case
               when p_error is null or p_retry_in_s is null then next_at
               else ago_v1(-p_retry_in_s) end,
           last_error = p_error
     where job_id = p_job_id and state = 'pending' and attempts = p_attempt;
    return found;
end
$$;

-- =============================================================================================
-- RIGHTS
--
-- Nobody but the service role calls a function or reads a table, whatever the platform grants by
-- itself: Supabase grants every new table and function in `public` to anon, authenticated and
-- service_role. These roles are only spoken of where they are.

-- ---------------------------------------------------------------------------------------------
-- guards

-- Steps are what clients call: they run with the rights of the tables' owner, and the service role
-- may execute them. Parts are what steps are made of, and triggers: they run with the rights of who
-- calls them, and nobody may. A name stands for all functions of that name.
create or replace function public.guard_functions_v1(p_steps text[], p_parts text[]) returns void
language plpgsql set search_path = public, pg_temp as $$
declare
    v_name text;
    v_function regprocedure;
    v_role text;
begin
    foreach v_name in array p_steps || p_parts loop
        if not exists (select 1 from pg_proc
                        where proname = v_name and pronamespace = 'public'::regnamespace) then
            raise exception 'There is no function %.', v_name;
        end if;
        for v_function in select oid::regprocedure from pg_proc
                           where proname = v_name and pronamespace = 'public'::regnamespace loop
            execute format('revoke all on function %s from public', v_function);
            for v_role in select rolname from pg_roles
                           where rolname in ('anon', 'authenticated', 'service_role') loop
                execute format('revoke all on function %s from %I', v_function, v_role);
            end loop;
            if v_name = any (p_steps) then
                execute format('alter function %s security definer', v_function);
                if exists (select 1 from pg_roles where rolname = 'service_role') then
                    execute format('grant execute on function %s to service_role', v_function);
                end if;
            end if;
        end loop;
    end loop;
end
$$;
comment on function public.guard_functions_v1(text[], text[]) is
    'Lets the service role alone execute the steps, and nobody the parts.';

-- Tables and views of ours: row-level security, all rights for the service role, none for others.
-- What the policies in supabase/policies have opened is closed with it, for columns too.
create or replace function public.guard_tables_v1(p_names text[]) returns void
language plpgsql set search_path = public, pg_temp as $$
declare
    v_name text;
    v_role text;
begin
    foreach v_name in array p_names loop
        if (select relkind from pg_class where oid = format('public.%I', v_name)::regclass) = 'r'
        then
            -- Only where it is off: it locks the table.
            if not (select relrowsecurity from pg_class
                     where oid = format('public.%I', v_name)::regclass) then
                execute format('alter table public.%I enable row level security', v_name);
            end if;
            if exists (select 1 from pg_policies
                        where schemaname = 'public' and tablename = v_name
                          and policyname = 'glimpse3d_demo_read') then
                execute format('drop policy glimpse3d_demo_read on public.%I', v_name);
            end if;
        end if;
        execute format('revoke all on public.%I from public', v_name);
        for v_role in select rolname from pg_roles where rolname in ('anon', 'authenticated') loop
            execute format('revoke all on public.%I from %I', v_name, v_role);
        end loop;
        if exists (select 1 from pg_roles where rolname = 'service_role') then
            execute format('grant all on public.%I to service_role', v_name);
        end if;
    end loop;
end
$$;
comment on function public.guard_tables_v1(text[]) is
    'Lets the service role alone read and write the tables and views.';

-- ---------------------------------------------------------------------------------------------
-- what is there

-- {version, schema_version, role, now, tables, functions, policies, buckets}; `buckets` is null
-- where there is no Storage. Rights of roles that do not exist are empty.
create or replace function public.inspect_v1() returns jsonb
language plpgsql stable set search_path = public, pg_temp as $$
declare
    v_buckets jsonb;
begin
    if to_regclass('storage.buckets') is not null then
        -- Not known when this function is made elsewhere.
        execute $q$
            select coalesce(jsonb_agg(jsonb_build_object(
                       'id', b.id, 'public', b.public, 'file_size_limit', b.file_size_limit,
                       'allowed_mime_types', to_jsonb(b.allowed_mime_types)) order by b.id), '[]')
              from storage.buckets b
        $q$ into v_buckets;
    end if;
    return jsonb_build_object(
        'version', current_setting('server_version'),
        'version_number', current_setting('server_version_num')::integer,
        'schema_version', schema_version_v1(),
        'role', coalesce(
            nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'role',
            session_user::text),
        'now', clock_timestamp(),
        'tables', (
            select coalesce(jsonb_agg(jsonb_build_object(
                       'name', c.relname,
                       'view', c.relkind = 'v',
                       'row_security', c.relrowsecurity,
                       'anon', (
                            select coalesce(jsonb_agg(distinct p.name order by p.name), '[]')
                              from unnest(array[
                                  'select', 'insert', 'update', 'delete', 'truncate']) p (name)
                              join pg_roles r on r.rolname in ('anon', 'authenticated')
                             where has_table_privilege(r.oid, c.oid, p.name)
                                or (p.name in ('select', 'insert', 'update')
                                    and has_any_column_privilege(r.oid, c.oid, p.name))),
                       'service', (
                            select bool_and(has_table_privilege(r.oid, c.oid, p.name))
                              from unnest(array['select', 'insert', 'update', 'delete']) p (name)
                              join pg_roles r on r.rolname = 'service_role')
                   ) order by c.relname), '[]')
              from pg_class c
             where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'v')),
        'functions', (
            select coalesce(jsonb_agg(jsonb_build_object(
                       'name', f.proname,
                       'definer', f.prosecdef,
                       'fixed_path', coalesce(
                            (select bool_or(s like 'search_path=%') from unnest(f.proconfig) s),
                            false),
                       'anon', exists (
                            select 1 from pg_roles r where r.rolname in ('anon', 'authenticated')
                               and has_function_privilege(r.oid, f.oid, 'execute')),
                       'service', (
                            select has_function_privilege(r.oid, f.oid, 'execute')
                              from pg_roles r where r.rolname = 'service_role')
                   ) order by f.proname, f.oid), '[]')
              from pg_proc f
             where f.pronamespace = 'public'::regnamespace),
        'policies', (
            select coalesce(jsonb_agg(jsonb_build_object(
                       'schema', l.schemaname, 'table', l.tablename, 'name', l.policyname,
                       'permissive', l.permissive = 'PERMISSIVE', 'command', lower(l.cmd),
                       'roles', to_jsonb(l.roles))
                       order by l.schemaname, l.tablename, l.policyname), '[]')
              from pg_policies l
             where l.schemaname in ('public', 'storage')),
        'buckets', v_buckets);
end
$$;
comment on function public.inspect_v1() is 'What `glimpse3d doctor` looks at.';

-- ---------------------------------------------------------------------------------------------
-- who may do what
select public.guard_functions_v1(
    p_steps => array[
        'arrange_photos_v1', 'begin_photo_v1', 'begin_upload_v1', 'cancel_job_v1', 'claim_job_v1',
        'claim_webhook_v1', 'commit_stage_v1', 'committed_v1', 'delete_project_v1',
        'due_deletions_v1', 'due_photos_v1', 'end_deletion_v1', 'end_photo_v1', 'ended_jobs_v1',
        'expire_projects_v1', 'expire_uploads_v1', 'file_store_v1', 'find_photo_v1',
        'find_upload_v1', 'finish_job_v1', 'finish_upload_v1',
        'finish_webhook_v1', 'forget_v1', 'get_job_v1', 'get_project_v1', 'heartbeat_v1',
        'inspect_v1', 'job_events_v1', 'jobs_to_sweep_v1', 'list_projects_v1', 'mark_swept_v1',
        'name_file_store_v1', 'project_detail_v1', 'project_events_v1', 'project_jobs_v1',
        'publish_preview_v1',
        'purge_project_v1', 'put_view_edit_v1', 'queue_v1', 'referenced_paths_v1',
        'release_job_v1', 'restore_version_v1', 'schema_version_v1', 'submit_job_v1',
        'take_photo_back_v1', 'take_view_edit_v1'],
    p_parts => array[
        'add_job_event_v1', 'add_job_state_event_v1', 'ago_v1',
        'check_lease_v1', 'check_limit_v1', 'check_version_v1', 'end_job_v1', 'expected_seconds_v1',
        'generation_of_v1',
        'guard_functions_v1', 'guard_tables_v1', 'is_false_start_v1', 'is_forgotten_v1',
        'is_marked_v1',
        'job_document_v1', 'lock_attempt_v1', 'lock_idle_project_v1', 'lock_project_v1',
        'mark_project_v1', 'photo_document_v1', 'photos_document_v1',
        'project_document_v1', 'project_name_key_v1', 'queue_order_v1', 'show_job_on_project_v1',
        'stage_memory_v1', 'stage_status_v1', 'touch_updated_at', 'view_edit_document_v1']);

select public.guard_tables_v1(array[
    'projects', 'project_photos', 'jobs', 'job_events', 'job_stages', 'multiview_generation',
    'depth_maps',
    'gaussian_splat_models', 'enhancement_iterations', 'refinement_metrics', 'enhanced_views',
    'export_history', 'model_previews', 'contact_sheets', 'deletions', 'webhooks',
    'view_edits', 'file_store', 'project_summary', 'refinement_progress']);

-- =============================================================================================
-- BUCKETS
--
-- The six buckets and their policies. Does nothing where there is no Supabase Storage.
--
-- Row-level security is on in `storage` from the beginning, and the service role passes it. Nobody
-- else may do anything here. Policies that say no stand beside those that somebody wrote for other
-- buckets and made too wide (`using (true)`), and win. supabase/policies opens reading.
--
-- Policies are only touched where something is to change: on the platform each CREATE or DROP POLICY
-- locks the tables of auth and storage against everybody until the transaction ends. So a policy
-- that is to mean something else gets another name.
do $do$
declare
    -- One per command, so that supabase/policies can open one of them.
    v_command text;
    v_policy text;
    v_check constant text := $q$(bucket_id <> all (array[
        'project-uploads', 'processed-images', 'multiview-images', 'depth-maps', 'enhanced-views',
        '3d-models']))$q$;
begin
    if to_regclass('storage.buckets') is null then
        return;
    end if;

    -- Sizes and types are brought up to date; what was made public stays so.
    insert into storage.buckets (id, name, public, file_size_limit, allowed_mime_types)
    select b.id, b.id, false, b.mebibytes * 1024 * 1024, b.types
      from (values
        ('project-uploads', 50, array['image/png']),
        ('processed-images', 50, array['image/png']),
        ('multiview-images', 50, array['image/png', 'application/octet-stream']),
        ('depth-maps', 50, array['image/png', 'application/octet-stream']),
        ('enhanced-views', 50, array['image/png']),
        ('3d-models', 200, array[
            'application/octet-stream', 'application/zip', 'image/png', 'model/3mf',
            'model/gltf-binary', 'model/stl', 'model/vnd.usdz+zip', 'video/mp4'])) as b (id, mebibytes, types)
    on conflict (id) do update
       set file_size_limit = excluded.file_size_limit,
           allowed_mime_types = excluded.allowed_mime_types;

    foreach v_command in array array['select', 'insert', 'update', 'delete'] loop
        continue when exists (
            select 1 from pg_policies where schemaname = 'storage' and tablename = 'objects'
               and policyname = 'glimpse3d_no_' || v_command);
        execute format(
            'create policy %I on storage.objects as restrictive for %s to public %s',
            'glimpse3d_no_' || v_command, v_command,
            case v_command
                when 'insert' then 'with check ' || v_check
                when 'update' then format('using %s with check %s', v_check, v_check)
                else 'using ' || v_check end);
    end loop;
    -- Of supabase/policies.
    foreach v_policy in array array['glimpse3d_demo_read', 'glimpse3d_demo_no_links'] loop
        if exists (select 1 from pg_policies where schemaname = 'storage' and tablename = 'objects'
                      and policyname = v_policy) then
            execute format('drop policy %I on storage.objects', v_policy);
        end if;
    end loop;
    if not exists (select 1 from pg_policies where schemaname = 'storage' and tablename = 'buckets'
                      and policyname = 'glimpse3d_no_buckets') then
        create policy glimpse3d_no_buckets on storage.buckets as restrictive for all
            to public
            using (id <> all (array[
                'project-uploads', 'processed-images', 'multiview-images', 'depth-maps',
                'enhanced-views', '3d-models']));
    end if;
end
$do$;
